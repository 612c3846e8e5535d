"""Archives in memory: bombs, entities, deep nesting and names that leave are refused or listed."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers import archives
from mlx_ragtune.papers.archives import ZipPackage, inside, parse_xml, read_tar
from tests.papers.packages import write_tar, write_zip


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2**20)
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 2**21)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)


@pytest.mark.usefixtures("small_limits")
def test_a_member_that_expands_is_refused_whatever_size_it_claims(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x", {"big": b"\0" * (2**20 + 1), "small": b"x"})
    with ZipPackage(path, "a test") as package, pytest.raises(InputError, match="big unpacks to more than 1 MiB"):
        package.read("big")
    raw = path.read_bytes()
    path.write_bytes(raw.replace((2**20 + 1).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    with ZipPackage(path, "a test") as package, pytest.raises(InputError):
        package.read("big")


@pytest.mark.usefixtures("small_limits")
def test_many_members_together_have_a_limit(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x", {f"m{number}": b"\0" * 2**20 for number in range(4)})
    with ZipPackage(path, "a test") as package:
        assert [len(package.read(name)) for name in package.names[:2]] == [2**20, 2**20]
        with pytest.raises(InputError, match="it unpacks to more than 2 MiB"):
            package.read("m2")
    write_zip(tmp_path / "y", {f"m{number}": b"" for number in range(51)})
    with pytest.raises(InputError, match="more than 50 files"):
        ZipPackage(tmp_path / "y", "a test")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x", {"a": b"text"})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match="it is encrypted"):
        ZipPackage(path, "a test")


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x">%x;]><a/>',
    ],
)
def test_entities_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="declares XML entities"):
        parse_xml(text.encode(), "x.xml", Path("x"))


def test_deep_nesting_is_refused_and_a_plain_doctype_is_read() -> None:
    deep = "<a>" * 300 + "</a>" * 300
    with pytest.raises(InputError, match="nests XML elements too deeply"):
        parse_xml(deep.encode(), "x.xml", Path("x"))
    assert parse_xml(b'<!DOCTYPE html PUBLIC "-//W3C" "http://x/y.dtd"><a b="c"/>', "x", Path("x")).get("b") == "c"
    with pytest.raises(InputError, match="not well-formed XML"):
        parse_xml(b'<?xml version="1.0" encoding="no-such"?><a/>', "x", Path("x"))


def test_names_that_leave_are_never_read(tmp_path: Path) -> None:
    assert [inside(name) for name in ("a/b", "./a//b", "a/../b", "../a", "/a", "a/../../b", "C:\\x", "..", "")] == [
        "a/b", "a/b", "b", None, None, None, None, None, None,
    ]  # fmt: skip
    path = write_tar(
        tmp_path / "x.tar.gz", {"a.tex": "x", "../b.tex": "y", "/c.tex": "z"}, links={"d.tex": "/etc/passwd"}
    )
    assert read_tar(path, wanted=lambda _name: True) == ({"a.tex": b"x"}, ["../b.tex", "/c.tex", "d.tex"])


@pytest.mark.usefixtures("small_limits")
def test_packed_zeros_are_refused_also_in_members_that_nobody_wants(tmp_path: Path) -> None:
    bomb = tmp_path / "x.gz"
    bomb.write_bytes(gzip.compress(b"\\" + b"\0" * 2**22))
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        read_tar(bomb, wanted=lambda _name: True)
    path = write_tar(tmp_path / "x.tar.gz", {"fig.eps": b"\0" * 2**22, "a.tex": "x"})
    with pytest.raises(InputError, match="it unpacks to more than 2 MiB"):
        read_tar(path, wanted=lambda name: name.endswith(".tex"))


def test_single_packed_files_and_plain_tars_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\\documentclass{article}"))
    assert read_tar(path, wanted=lambda _name: True) == ({"": b"\\documentclass{article}"}, [])
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty.tex"))
    (tmp_path / "x.tar").write_bytes(plain.getvalue())
    assert read_tar(tmp_path / "x.tar", wanted=lambda _name: True) == ({"empty.tex": b""}, [])


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"x" * 999, mtime=0)[:20], b"\x1f\x8b" + b"\0" * 30])
def test_what_is_not_an_archive_or_torn_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match="not a tar or gzip file, or damaged"):
        read_tar(tmp_path / "x.tar.gz", wanted=lambda _name: True)


def test_a_torn_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x", {"a": b"text" * 1000})
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("a").header_offset + 31
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 9] = b"\xff" * 9
    path.write_bytes(raw)
    with ZipPackage(path, "a test") as package, pytest.raises(InputError, match="cannot unpack a"):
        package.read("a")
