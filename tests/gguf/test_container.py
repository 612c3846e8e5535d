import struct
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.container import GgufFile
from tests.toy_models import Written

HEAD = b"GGUF" + struct.pack("<I", 3)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def build(path: Path, *, pairs: list[bytes] = [], tensors: list[bytes] = [], data: int = 0) -> Path:  # noqa: B006
    body = HEAD + struct.pack("<QQ", len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    path.write_bytes(body + bytes(-len(body) % 32) + bytes(data))
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        GgufFile(path)
    assert caught.value.where == str(path)
    return caught.value.what


def test_reads_what_the_reference_reader_reads(written: Written) -> None:
    path = written("qwen3", "Q8_0")
    ours, theirs = GgufFile(path), GGUFReader(path)
    assert {t.name: (t.type, t.shape, t.start, t.bytes) for t in ours.tensors} == {
        t.name: (t.tensor_type, tuple(int(n) for n in t.shape[::-1]), int(t.data_offset), int(t.n_bytes))
        for t in theirs.tensors
    }
    for key, value in ours.fields.items():
        expected = theirs.fields[key].contents()
        assert np.array_equal(value, expected) if isinstance(value, np.ndarray) else value == expected, key


def test_rows_are_the_bytes_at_their_place(written: Written) -> None:
    file = GgufFile(written("qwen3", "F32"))
    found = next(one for one in file.tensors if one.name == "token_embd.weight")
    rows = file.rows(found, 3, 2).copy().view(np.float32)
    whole = np.fromfile(file.path, np.float32, 5 * 64, offset=found.start).reshape(5, 64)
    assert np.array_equal(rows, whole[3:5])


def test_every_scalar_type_is_read(tmp_path: Path) -> None:
    values = {
        0: ("<B", 200), 1: ("<b", -7), 2: ("<H", 60000), 3: ("<h", -300), 4: ("<I", 4 * 10**9), 5: ("<i", -70000),
        6: ("<f", 0.5), 7: ("<B", 1), 10: ("<Q", 2**60), 11: ("<q", -(2**60)), 12: ("<d", 1e300),
    }  # fmt: skip
    pairs = [pair(f"k{kind}", kind, struct.pack(*packed)) for kind, packed in values.items()]
    pairs.append(pair("list", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)))
    fields = GgufFile(build(tmp_path / "a.gguf", pairs=pairs)).fields
    assert fields["list"].tolist() == [1, -2, 3]
    assert {kind: fields[f"k{kind}"] for kind in values} == {
        kind: True if kind == 7 else value for kind, (_, value) in values.items()
    }


@pytest.mark.parametrize("size", [0, 3, 4, 12, 23])
def test_a_file_shorter_than_its_head_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes((HEAD + bytes(16))[:size])
    refused(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.gguf")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path).lower()


def test_wrong_magic_says_what_is_there_instead(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"<!DOCTYPE html><html>" * 9)
    assert "b'<!DO'" in refused(path)


@pytest.mark.parametrize(("version", "said"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")])
def test_other_versions_are_refused(tmp_path: Path, version: int, said: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, 0) + bytes(64))
    assert said in refused(path)


@pytest.mark.parametrize("counts", [(0, 2**63), (2**64 - 1, 0), (10**9, 10**9), (3, 0), (0, 5)])
def test_counts_that_do_not_fit_are_refused_at_once(tmp_path: Path, counts: tuple[int, int]) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(HEAD + struct.pack("<QQ", *counts) + bytes(40))
    started = time.perf_counter()
    assert "do not fit" in refused(path)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("length", [41, 2**31, 2**63, 2**64 - 1])
def test_string_lengths_past_the_end_allocate_nothing(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", length) + bytes(40))
    assert "ends after" in refused(path)


@pytest.mark.parametrize("kind", [0, 7, 8, 12])
@pytest.mark.parametrize("count", [100, 2**40, 2**64 - 1])
def test_list_lengths_past_the_end_allocate_nothing(tmp_path: Path, kind: int, count: int) -> None:
    path = build(tmp_path / "a.gguf", pairs=[pair("k", 9, struct.pack("<IQ", kind, count) + bytes(9))])
    started = time.perf_counter()
    refused(path)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("value", [struct.pack("<I", 13), struct.pack("<I", 2**31)])
def test_unknown_value_types_are_refused(tmp_path: Path, value: bytes) -> None:
    path = build(tmp_path / "a.gguf", pairs=[text("k") + value + bytes(32)])
    assert "value type" in refused(path)


def test_lists_of_lists_are_refused(tmp_path: Path) -> None:
    nested = struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1) + bytes(32)
    assert "a list of type 9" in refused(build(tmp_path / "a.gguf", pairs=[pair("k", 9, nested)]))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "a.gguf", pairs=[pair("k", 8, struct.pack("<Q", 2) + b"\xff\xfe")])
    assert "not UTF-8" in refused(path)


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    one = pair("k", 0, b"\1")
    assert "duplicate key 'k'" in refused(build(tmp_path / "a.gguf", pairs=[one, one]))


@pytest.mark.parametrize("value", [struct.pack("<I", 0), struct.pack("<I", 24), struct.pack("<I", 2**31)])
def test_an_alignment_that_is_none_is_refused(tmp_path: Path, value: bytes) -> None:
    assert "alignment" in refused(build(tmp_path / "a.gguf", pairs=[pair("general.alignment", 4, value)]))


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (tensor("t", (32,), 0, 0), "truncated"),
        (tensor("t", (2**40, 2**40), 0, 0), "truncated"),
        (tensor("t", (0,), 0, 0), "shape"),
        (tensor("t", (33,), 8, 0), "shape"),
        (tensor("t", (4,), 0, 1), "shape"),
        (tensor("t", (), 0, 0), "0 dimensions"),
        (tensor("t", (1, 1, 1, 1, 1), 0, 0), "5 dimensions"),
        (tensor("t", (4,), 255, 0), "unknown type 255"),
        (tensor("t", (4,), 0, 2**63), "truncated"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path: Path, described: bytes, said: str) -> None:
    assert said in refused(build(tmp_path / "a.gguf", tensors=[described], data=64))


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    one = tensor("t", (4,), 0, 0)
    assert "the same name" in refused(build(tmp_path / "a.gguf", tensors=[one, one], data=64))


def test_a_sound_file_without_tensors_is_read(tmp_path: Path) -> None:
    assert GgufFile(build(tmp_path / "a.gguf")).tensors == ()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_shortened_file_is_refused(tmp_path: Path, written: Written, share: float) -> None:
    whole = written("qwen3", "F16").read_bytes()
    path = tmp_path / "a.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path)


def test_need_names_the_key_that_is_absent_or_of_another_kind(tmp_path: Path) -> None:
    file = GgufFile(build(tmp_path / "a.gguf", pairs=[pair("k", 8, text("word")), pair("yes", 7, b"\1")]))
    for key, kind in (("none", int), ("k", int), ("yes", int)):
        with pytest.raises(InputError, match=f"key {key} is"):
            file.need(key, kind)
    assert file.need("k", str) == "word"
