"""Folders that are either finished or not there: drafts, manifests, fingerprints, locks.

runs/<recipe>/3-train/            a finished artifact, with manifest.json written last
runs/<recipe>/.drafts/3-train/    the same being built; a later run of the same work goes on in it
runs/<recipe>/.lock               held while a run is going on
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlx_ragtune.errors import ArtifactError, ToolError

Inputs = Mapping[str, Path]
"""The folders that a stage reads, by the name of the stage that made them."""

STAGE_FOLDERS = {
    "corpus": "1-corpus",
    "dataset": "2-dataset",
    "train": "3-train",
    "fuse": "4-fuse",
    "export": "5-export",
    "register": "6-register",
    "evaluate": "7-evaluate",
    "report": "8-report",
}
"""The artifact folder of each stage below a run's folder."""

MANIFEST = "manifest.json"
_FINGERPRINT = ".fingerprint"


class Track(Protocol):
    """What a stage tells about how far it is."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more of the total are done; ``note`` is shown beside the bar."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` are done."""


class _Silent:
    def advance(self, count: int = 1, note: str = "") -> None:
        pass

    def reach(self, done: int, total: int, note: str = "") -> None:
        pass


Tracker = Callable[[str, int], AbstractContextManager[Track]]


def silent(_label: str, _total: int) -> AbstractContextManager[Track]:
    """A tracker that shows nothing."""
    return nullcontext(_Silent())


def digest_bytes(*parts: bytes) -> str:
    """sha256 of the parts, each with its length, as hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_paths(paths: Iterable[Path]) -> dict[str, str]:
    """sha256 of every file in and below the paths, by name relative to each path's parent."""
    found: dict[str, str] = {}
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path.parent).parts):
                found[file.relative_to(path.parent).as_posix()] = digest_file(file)
    return found


def fingerprint(described: Mapping[str, Any]) -> str:
    """sha256 of a canonical JSON rendering: the same description, the same fingerprint, on every machine."""
    return digest_bytes(json.dumps(described, sort_keys=True, ensure_ascii=False).encode())


@dataclass(frozen=True)
class Artifact:
    """A finished artifact folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the work that made it."""
        return str(self.manifest["fingerprint"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage recorded about its result."""
        return dict(self.manifest["facts"])

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise ArtifactError(
                f"'{name}' is missing from a finished artifact",
                where=str(self.folder),
                fix=f"rm -r {self.folder}",
            )
        return path


def read_artifact(folder: Path) -> Artifact | None:
    """The finished artifact in a folder, or None if there is none. Raises ArtifactError if damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = {name: entry["bytes"] for name, entry in manifest["files"].items()}
        manifest["fingerprint"], manifest["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError("the manifest cannot be read", where=str(path), fix=f"rm -r {folder}") from None
    for name, size in expected.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            state = f"has {file.stat().st_size} bytes, not {size}" if file.is_file() else "is missing"
            raise ArtifactError(f"'{name}' {state}", where=str(folder), fix=f"rm -r {folder}, then run again")
    return Artifact(folder, manifest)


@dataclass
class Draft:
    """The folder that a stage builds its artifact in. What is in it survives a kill and is there again."""

    folder: Path
    track: Tracker = silent
    facts: dict[str, Any] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def record(self, **facts: Any) -> None:
        """Put facts about the result into the manifest; they must be plain JSON."""
        self.facts.update(facts)


def open_draft(home: Path, name: str, work: str, *, carries: Iterable[str] = ()) -> Draft:
    """The draft for this fingerprint: the unfinished one where it fits, else a new one.

    ``carries`` names files whose rows are keyed by what they depend on, so that they stay right under
    other settings: they are taken over from the stale draft or from the finished artifact.
    """
    folder = home / ".drafts" / name
    mark = folder / _FINGERPRINT
    if mark.exists() and mark.read_text() == work:
        return Draft(folder)
    kept = folder.with_name(f"{name}.kept")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for carried in carries:
        for source in (folder / carried, home / name / carried):
            if source.is_file():
                shutil.copyfile(source, kept / carried)
                break
    shutil.rmtree(folder, ignore_errors=True)
    (kept / _FINGERPRINT).write_text(work)
    kept.rename(folder)
    return Draft(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def finish(draft: Draft, target: Path, manifest: dict[str, Any]) -> Artifact:
    """Turn a draft into the finished artifact: fsync everything, manifest last, then rename."""
    own = {_FINGERPRINT, MANIFEST, f".{MANIFEST}"}
    files = sorted(file for file in draft.folder.rglob("*") if file.is_file() and file.name not in own)
    entries = {}
    for file in files:
        _sync(file)
        entries[file.relative_to(draft.folder).as_posix()] = {
            "bytes": file.stat().st_size,
            "sha256": digest_file(file),
        }
    whole = {**manifest, "facts": draft.facts, "files": entries}
    temporary = draft.folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    _sync(temporary)
    temporary.rename(draft.folder / MANIFEST)
    return promote(draft.folder, target)


def promote(folder: Path, target: Path) -> Artifact:
    """Rename a complete draft to its final place; an older artifact there is removed afterwards."""
    (folder / _FINGERPRINT).unlink(missing_ok=True)  # from here on the manifest says that it is complete
    _sync(folder)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    artifact = read_artifact(target)
    if artifact is None:
        raise ArtifactError("no manifest after it was written", where=str(target), fix="run the same command again")
    return artifact


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the run's lock. Raises ArtifactError at once when another process holds it."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / ".lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise ArtifactError(
                f"another run of this recipe is going on (process {holder})",
                where=str(home),
                fix="wait for it, or stop it with Ctrl-C",
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def require_disk(folder: Path, needed_bytes: int, *, what: str) -> None:
    """Raise ToolError when the disk that holds ``folder`` has less than ``needed_bytes`` free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ToolError(
            f"{what} needs {needed_bytes / 2**30:.1f} GiB of disk, and {free / 2**30:.1f} GiB are free",
            where=str(folder),
            fix="free some space, or choose a smaller export.type",
        )
