"""Content-addressed artifacts: a store shared by all recipes, drafts, manifests and locks.

runs/.store/train/3f2a…/        a finished artifact, with manifest.json written last
runs/.store/.drafts/train-3f2a…/  the same artifact while it is built; the same work resumes there
runs/.store/parts/gguf-91c0…/   part of an artifact that several artifacts share
runs/.store/cache/              append-only results that stay right for any recipe (answers, generated pairs)
runs/<recipe>/3-train           a link to the artifact that the recipe uses now
"""

import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlx_ragtune.errors import ArtifactError, ToolError

if TYPE_CHECKING:
    from filelock import FileLock

    from mlx_ragtune.recipe import Recipe

Inputs = Mapping[str, Path]
"""The folders that a stage reads, by the name of the stage that wrote them; ``base`` is the base model."""

STAGE_FOLDERS = {
    "corpus": "1-corpus",
    "dataset": "2-dataset",
    "rehearse": "2b-rehearse",
    "train": "3-train",
    "fuse": "4-fuse",
    "export": "5-export",
    "register": "6-register",
    "evaluate": "7-evaluate",
    "report": "8-report",
}
"""Name of each stage's folder in a run, in pipeline order. ``rehearse`` is of recipes with ``dataset.rehearsal``."""
STORE = ".store"
MANIFEST = "manifest.json"
KEY_LENGTH = 16
"""Hexadecimal digits of a key in a folder name (64 bits); the manifest holds the whole key."""
_CACHE_FOLDER, INPUTS_FOLDER = ".cache", ".inputs"


class Track(Protocol):
    """Progress of one step of a stage."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` to what is done; ``note`` is shown beside the bar."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set progress to ``done`` of ``total``."""


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
    """sha256 of the parts, each preceded by its length, as hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of a canonical JSON rendering: equal values have equal digests on every machine."""
    return digest_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass"))


@dataclass(frozen=True)
class Artifact:
    """A finished artifact folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def key(self) -> str:
        """The digest of everything that the artifact was made from."""
        return str(self.manifest["key"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage recorded about its result."""
        return dict(self.manifest["facts"])

    def content(self, patterns: Iterable[str]) -> str:
        """Digest of the names and bytes of the files that match any of the patterns."""
        files = self.manifest["files"]
        chosen = sorted(name for name in files if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
        return digest_json([[name, files[name]["sha256"]] for name in chosen])

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise ArtifactError(
                f"'{name}' is missing from a finished artifact", where=str(self.folder), fix=f"rm -r {self.folder}"
            )
        return path


def read_artifact(folder: Path) -> Artifact | None:
    """The finished artifact in a folder, or None if there is none. Raises ArtifactError if it is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    fix = f"rm -r {folder.resolve()}, then run the same command again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
        manifest["key"], manifest["facts"], manifest["described"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError("cannot read the manifest", where=str(path), fix=fix) from None
    for name, size in expected.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            state = f"has {file.stat().st_size} bytes instead of {size}" if file.is_file() else "is missing"
            raise ArtifactError(f"'{name}' {state}", where=str(folder), fix=fix)
    return Artifact(folder, manifest)


@dataclass
class Draft:
    """The folder that a stage builds its artifact in. Its content survives a kill and is there on resume."""

    folder: Path
    store: "Store | None" = None
    track: Tracker = silent
    say: Callable[[str], None] = lambda _text: None
    fresh: bool = False
    """Requested with ``--redo``: results of earlier runs are not used."""
    replace_others: bool = False
    """Requested with ``--replace``: a model at a server that is not ours may be replaced."""
    facts: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def record(self, **facts: Any) -> None:
        """Put facts about the result into the manifest; they must be plain JSON."""
        self.facts.update(facts)

    def cache(self, name: str) -> Path:
        """A file of results that stay right for any recipe: JSONL rows or an SQLite table, with a ``key`` each.

        It is shared by all runs. With ``--redo`` it starts empty, and replaces the shared rows when the stage
        finishes.
        """
        shared = self.store is not None and not self.fresh
        path = (self.store.cache_folder if shared and self.store else self.folder / _CACHE_FOLDER) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def part(self, kind: str, described: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of a part that artifacts with the same description share; ``build`` fills it once."""
        if self.store is None:
            folder = self.folder / f".part-{kind}"
            folder.mkdir(exist_ok=True)
            build(folder)
            return folder
        folder = self.store.part(kind, described, build)
        self.parts.append(folder.name)
        return folder


class Store:
    """The artifacts of all recipes under one runs folder, found by their keys."""

    def __init__(self, runs: Path) -> None:
        self.root = runs / STORE
        self.cache_folder = self.root / "cache"

    def folder(self, stage: str, key: str) -> Path:
        """Where the artifact with this key is, or will be."""
        return self.root / stage / key[:KEY_LENGTH]

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact with this key, or None. Raises ArtifactError if it is damaged."""
        artifact = read_artifact(self.folder(stage, key))
        return artifact if artifact and artifact.key == key else None

    def draft_folder(self, stage: str, key: str, *, fresh: bool = False) -> Path:
        """Where the artifact with this key is built."""
        return self.root / ".drafts" / f"{stage}-{key[:KEY_LENGTH]}{'-redo' * fresh}"

    def open_draft(self, stage: str, key: str, *, fresh: bool = False) -> Draft:
        """The draft for this key: the unfinished one if there is one, else a new one."""
        folder = self.draft_folder(stage, key, fresh=fresh)
        folder.mkdir(parents=True, exist_ok=True)
        return Draft(folder, self, fresh=fresh)

    def finish(self, draft: Draft, stage: str, manifest: dict[str, Any]) -> Artifact:
        """Turn a draft into the finished artifact: fsync everything, manifest last, then rename."""
        if draft.fresh:
            _replace_rows(draft.folder / _CACHE_FOLDER, self.cache_folder)
        for folder in (_CACHE_FOLDER, INPUTS_FOLDER):
            shutil.rmtree(draft.folder / folder, ignore_errors=True)
        entries = {}
        for file in sorted(path for path in draft.folder.rglob("*") if path.is_file()):
            if file.name not in {MANIFEST, f".{MANIFEST}"}:
                _sync(file)
                entries[file.relative_to(draft.folder).as_posix()] = {
                    "bytes": file.stat().st_size,
                    "sha256": digest_file(file),
                }
        whole = {**manifest, "facts": draft.facts, "parts": draft.parts, "files": entries}
        temporary = draft.folder / f".{MANIFEST}"
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        temporary.rename(draft.folder / MANIFEST)
        _sync(draft.folder)
        return self.promote(draft.folder, self.folder(stage, manifest["key"]))

    def promote(self, folder: Path, target: Path) -> Artifact:
        """Rename a complete draft to its final place; an older artifact there is removed afterwards."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        folder.rename(target)
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
        artifact = read_artifact(target)
        if artifact is None:
            raise ArtifactError("the manifest is missing after writing it", where=str(target))
        return artifact

    def part(self, kind: str, described: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of a shared part, built aside under a lock and renamed, unless it is there already."""
        target = self.root / "parts" / f"{kind}-{digest_json(described)[:KEY_LENGTH]}"
        with self.lock(target.name):
            if target.is_dir():
                return target
            aside = self.root / ".drafts" / target.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            build(aside)
            for file in aside.rglob("*"):
                if file.is_file():
                    _sync(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(target)
            _sync(target.parent)
        return target

    def _file_lock(self, name: str) -> "FileLock":
        from filelock import FileLock

        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    @contextmanager
    def lock(self, name: str, say: Callable[[str], None] = lambda _text: None) -> Iterator[None]:
        """Hold the lock of one artifact; while another process holds it, wait and say so."""
        with self.try_lock(name) as free:
            if free:
                yield
                return
        say(f"{name}: another run is building it; waiting")
        with self._file_lock(name):
            yield

    @contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Whether the lock was free; it is held until the end."""
        from filelock import Timeout

        lock = self._file_lock(name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def link_file(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` without using disk; a copy where the volume has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _replace_rows(own: Path, shared: Path) -> None:
    """Move the rows of a redone stage's own cache into the shared one; rows with the same key are replaced."""
    for file in sorted(path for path in own.rglob("*") if path.is_file()) if own.is_dir() else ():
        target = shared / file.relative_to(own)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".jsonl":
            from mlx_ragtune.jsonl import RowLog

            with RowLog(target):  # cuts a torn last line
                pass
            with target.open("ab") as stream:
                stream.write(file.read_bytes())
                stream.flush()
                os.fsync(stream.fileno())
        elif file.suffix == ".sqlite":
            _replace_tables(file, target)


def _replace_tables(own: Path, shared: Path) -> None:
    with closing(sqlite3.connect(shared, timeout=60, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("ATTACH ? AS own", (str(own),))
        connection.execute("BEGIN IMMEDIATE")
        tables = connection.execute("SELECT name, sql FROM own.sqlite_master WHERE type = 'table'").fetchall()
        for name, statement in tables:
            if not connection.execute("SELECT 1 FROM main.sqlite_master WHERE name = ?", (name,)).fetchone():
                connection.execute(statement)
            connection.execute(f'INSERT OR REPLACE INTO main."{name}" SELECT * FROM own."{name}"')  # noqa: S608
        connection.execute("COMMIT")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def set_link(link: Path, target: Path) -> None:
    """Point a run's link at an artifact, in one step. Raises ArtifactError when something else is there."""
    if link.exists() and not link.is_symlink():
        raise ArtifactError(
            "a folder is in the place of a link to the artifact store",
            where=str(link),
            fix=f"mv {link} {link}.old, then run the same command again",
        )
    aside = link.with_name(f".{link.name}.new")
    aside.unlink(missing_ok=True)
    try:
        aside.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    except OSError as error:
        raise ToolError(
            f"cannot create a symbolic link: {error.strerror}",
            where=str(link.parent),
            fix="set RAGTUNE_RUNS to a folder on a volume with symbolic links (APFS, ext4; not exFAT)",
        ) from None
    aside.replace(link)


def declared_view(folder: Path, source: Path, patterns: Iterable[str]) -> Path:
    """A folder of links to just those files of ``source`` that match the patterns, so that no other can be read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = file.relative_to(source).as_posix()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(file.resolve())
    return folder


def unused(store: Store, *, remove: bool = False) -> Iterator[tuple[str, int]]:
    """(name, bytes freed) of each artifact, part and unfinished draft that no run uses; ``remove`` deletes them.

    What another process is building is in use.
    """
    runs = store.root.parent
    links = [link for link in runs.glob("*/*") if link.is_symlink() and link.is_dir()]
    used = {link.resolve() for link in links}
    artifacts = [artifact for folder in used if (artifact := read_artifact(folder))]
    parts = {name for artifact in artifacts for name in artifact.manifest.get("parts", ())}
    building = any(running(home) for home in runs.iterdir() if home.is_dir())
    for folder in sorted(path for path in store.root.glob("*/*") if path.is_dir()):
        kind = folder.parent.name
        if kind not in (*STAGE_FOLDERS, "parts", ".drafts") or folder.resolve() in used or folder.name in parts:
            continue
        lock = f"{kind}-{folder.name}" if kind in STAGE_FOLDERS else folder.name.removesuffix("-redo")
        with store.try_lock(lock) as free:
            if free and not (kind == "parts" and building):  # the part may be of an artifact that is being built
                files = [path.stat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
                size = sum(about.st_size for about in files if about.st_nlink == 1)
                if remove:
                    shutil.rmtree(folder)
                yield f"{kind.strip('.')}/{folder.name}", size


@contextmanager
def locked(home: Path) -> Iterator[Path]:
    """Hold the run's lock; yields the file that names the process and its stage.

    Raises ArtifactError at once when another process holds it.
    """
    import filelock

    home.mkdir(parents=True, exist_ok=True)
    holder = home / ".running"
    lock = filelock.FileLock(home / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        process = running(home)
        raise ArtifactError(
            f"another run of this recipe is in progress (process {process[0] if process else 'unknown'})",
            where=str(home),
            fix="wait for it to finish, or stop it with Ctrl-C",
        ) from None
    try:
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield holder
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def running(home: Path) -> tuple[int, str] | None:
    """(process, stage) of the run in progress in a run folder, or None."""
    with suppress(OSError, ValueError):
        process, _, stage = (home / ".running").read_text(encoding="utf-8").partition("\n")
        with (home / ".lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(process), stage.strip()
    return None  # a killed run leaves the file, but not the lock


def _size(count: int) -> str:
    """Bytes for a person: ``3.2 GiB``, ``40 MiB``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def require_disk(folder: Path, needed_bytes: int, *, what: str) -> None:
    """Raise ToolError when the volume that holds ``folder`` has less than ``needed_bytes`` free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ToolError(
            f"{what} needs {_size(needed_bytes)} of disk; {_size(free)} are free",
            where=str(folder),
            fix="free disk space with 'ragtune prune', choose a smaller export.type, or set RAGTUNE_RUNS",
        )


class OpenRun(Protocol):
    """What a command needs of a run: its recipe, its folder, its artifacts and its base model."""

    @property
    def recipe(self) -> "Recipe":
        """The recipe as it is now."""

    @property
    def home(self) -> Path:
        """The run's folder."""

    @property
    def track(self) -> Tracker:
        """Shows progress."""

    @property
    def base(self) -> Path:
        """The folder of the base model. Raises as ``bases.resolve.resolve_base``."""

    @property
    def base_digest(self) -> str:
        """The digest of the base model's files."""

    def artifact(self, stage: str) -> Artifact:
        """The up-to-date artifact of a stage. Raises ArtifactError, with the command to run, when there is none."""

    def bring(self, until: str) -> None:
        """Run every stage up to ``until`` that is not up to date."""
