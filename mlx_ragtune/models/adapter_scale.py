"""The factor on B·A in an adapter folder's ``adapter_config.json``, and the same adapter at another strength."""

from collections.abc import Mapping
from typing import Any


def scale_at(config: Mapping[str, Any], strength: float | None) -> float:
    """The factor on B·A at a strength, where 1 is the adapter as it was trained; None: as the folder has it.

    ``strength`` in the config says which strength its ``scale`` contains already. Raises KeyError, TypeError,
    ValueError or ZeroDivisionError for a damaged config.
    """
    scale = float(config["lora_parameters"]["scale"])
    return scale if strength is None else scale / float(config.get("strength", 1.0)) * strength
