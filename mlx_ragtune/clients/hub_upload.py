"""Files to a model repository of the Hugging Face hub: only into one that is ours, and checked afterwards.

The token comes from HF_TOKEN alone, and is in no message. Large files are sent one by one before the commit that names
them all: after a failure, the same call sends only what the hub does not have.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Track
from mlx_ragtune.clients.file_digests import is_offline, sha256_file
from mlx_ragtune.errors import InputError, RagtuneError, RecipeError, ToolError, printable

TOKEN = "HF_TOKEN"
RECORD = "ragtune.json"
"""The file by which a repository is known as ours; it lists the files of the last upload."""
_REPOSITORY = re.compile(r"[a-z0-9]([\w.-]{0,94}\w)?/[a-z0-9]([\w.-]{0,94}\w)?", re.ASCII | re.IGNORECASE)
_QUOTA = re.compile(r"quota|storage|exceed|too large|payment|billing|limit", re.IGNORECASE)
_AGAIN = "run the same command again: files that have arrived are not sent again"


@dataclass(frozen=True)
class HubFile:
    """A file by its name in the repository, and where its bytes are."""

    name: str
    source: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


@dataclass(frozen=True)
class Uploaded:
    """The page of the repository, and the commit that has the files."""

    url: str
    commit: str


def check_repository(name: str) -> None:
    """Raise RecipeError for a name that is not USER/NAME."""
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        raise RecipeError(
            f"'{name[:80]}' is not a repository of the hub", where="REPOSITORY", fix="write USER/NAME, for example "
            "ada/papers-qwen3"
        )  # fmt: skip


def hub_token() -> str:
    """The token in HF_TOKEN. Raises ToolError without one: files that hold tokens are not read."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ToolError(
            f"no token for the hub: {TOKEN} is not set",
            where="environment",
            fix=f"create a token with write access in the settings of the hub, then: export {TOKEN}=…",
        )
    return token


def upload(
    repository: str,
    files: Sequence[HubFile],
    *,
    public: bool,
    replace: bool,
    message: str,
    track: Track,
    say: Callable[[str], None] = lambda _text: None,
) -> Uploaded:
    """Create the repository unless it exists, upload the files in one commit, and compare what the hub then has.

    ``files`` contain RECORD, which lists them all. A new repository is private unless ``public``. Files that only an
    earlier upload of ours had are removed. Raises ToolError for a repository that is not ours (unless ``replace``) or
    whose visibility is another one, and for everything that the hub refuses.
    """
    check_repository(repository)
    token = hub_token()
    if is_offline():
        raise ToolError("uploads are switched off", where="environment", fix="unset RAGTUNE_OFFLINE and HF_HUB_OFFLINE")
    with _translated(repository, token):
        session = _Session(repository, token)
        before = session.open(public=public, replace=replace, say=say)
        commit = session.commit(files, removed=before - {file.name for file in files}, message=message, track=track)
        session.require_equal(files, commit)
    return Uploaded(f"{session.endpoint}/{repository}", commit)


class _Session:
    """The calls to the hub for one repository."""

    def __init__(self, repository: str, token: str) -> None:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        if self.endpoint != "https://huggingface.co":
            constants.HF_HUB_DISABLE_XET = True  # mirrors take uploads by Git LFS
        self._api = huggingface_hub.HfApi(endpoint=self.endpoint, token=token)
        self._repository = repository

    def open(self, *, public: bool, replace: bool, say: Callable[[str], None]) -> set[str]:
        """The names of the files that our last upload left there; an empty repository is created."""
        from huggingface_hub.errors import RepositoryNotFoundError

        self._api.whoami()
        try:
            info = self._api.model_info(self._repository)
        except RepositoryNotFoundError:
            self._api.create_repo(self._repository, private=not public, exist_ok=False)
            say(f"created {self.endpoint}/{self._repository}, {'public' if public else 'private'}")
            return set()
        if bool(info.private) == public:
            is_now, option = ("private", "leave out --public") if info.private else ("public", "add --public")
            raise ToolError(
                f"'{self._repository}' exists and is {is_now}",
                where=self.endpoint,
                fix=f"{option}, or change its visibility in its settings on the hub",
            )
        names = {sibling.rfilename for sibling in info.siblings or ()} - {".gitattributes"}
        if RECORD in names:
            return self._recorded(str(info.sha)) & names
        if names and not replace:
            raise ToolError(
                f"'{self._repository}' has files that ragtune did not upload: {', '.join(sorted(names)[:5])}",
                where=self.endpoint,
                fix="choose another name, or add --replace to write over files of the same names",
            )
        return set()

    def _recorded(self, commit: str) -> set[str]:
        path = self._api.hf_hub_download(self._repository, RECORD, revision=commit)
        try:
            return set(map(str, json.loads(Path(path).read_text(encoding="utf-8"))["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return set()

    def commit(self, files: Sequence[HubFile], *, removed: set[str], message: str, track: Track) -> str:
        """Send the large files one by one, then commit all; returns the commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations = [
            CommitOperationAdd(file.name, file.source if isinstance(file.source, bytes) else str(file.source))
            for file in files
        ]
        total, done = sum(file.size for file in files), 0
        for file, operation in sorted(zip(files, operations, strict=True), key=lambda pair: pair[0].size):
            track.reach(done, total, note=file.name)
            self._api.preupload_lfs_files(self._repository, [operation])
            done += file.size
        track.reach(done, total)
        gone = [CommitOperationDelete(name) for name in sorted(removed)]
        return str(self._api.create_commit(self._repository, [*operations, *gone], commit_message=message).oid)

    def require_equal(self, files: Sequence[HubFile], commit: str) -> None:
        """Raise ToolError unless the hub has every file with its size, and large ones with their digest."""
        info = self._api.model_info(self._repository, revision=commit, files_metadata=True)
        there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        for file in files:
            stored = there.get(file.name)
            digest = stored.lfs.sha256 if stored is not None and stored.lfs is not None else None
            if stored is None or stored.size != file.size or digest not in (None, _digest(file)):
                raise ToolError(f"the hub does not have '{file.name}' as it was sent", where=self.endpoint, fix=_AGAIN)


def _digest(file: HubFile) -> str:
    import hashlib

    if isinstance(file.source, bytes):
        return hashlib.sha256(file.source).hexdigest()
    return sha256_file(file.source)


@contextmanager
def _translated(repository: str, token: str) -> Iterator[None]:
    """Errors of the hub's client, and of its HTTP library, as ToolError without the token."""
    try:
        yield
    except (RagtuneError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise hub_error(error, repository, token) from None


def hub_error(error: BaseException, repository: str, token: str = "") -> ToolError | InputError:
    """What a failed call to the hub means, without token and signed addresses."""
    causes = list(_causes(error))
    error = next((cause for cause in causes if hasattr(cause, "response")), causes[-1])
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = clean_text(getattr(error, "server_message", None) or str(error) or type(error).__name__, token)
    if any(isinstance(cause, ValueError) and "README.md" in str(cause) for cause in causes):
        return ToolError(f"the hub does not accept the card ({said})", where=repository, fix="give another --license")
    if status is None:
        return ToolError(f"the connection to the hub broke ({said})", where=repository, fix=_AGAIN)
    what, fix = f"the hub answered {status}: {said}", _AGAIN
    if status == 401:
        what = f"the hub does not accept the token ({said})"
        fix = f"create a token with write access in the settings of the hub, then: export {TOKEN}=…"
    elif status in (402, 413, 507) or (status == 403 and _QUOTA.search(said)):
        what = f"there is no room for the files at the hub ({said})"
        fix = "delete what is not needed there, or push less: --what adapter"
    elif status == 403:
        what = f"the token may not write to '{repository}' ({said})"
        fix = "use a token with write access to this user or organization, or another USER/NAME"
    elif status in (409, 412):
        what = f"'{repository}' was changed while it was written ({said})"
    elif status == 429:
        fix = "wait some minutes, then run the same command again"
    return ToolError(what, where=repository, fix=fix)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it: the client wraps errors of single files."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def clean_text(text: str, token: str) -> str:
    """The first line of a message without the token and without the queries of addresses, which may be signed."""
    text = text.replace(token, "***") if token else text
    text = re.sub(r"hf_[A-Za-z0-9]{8,}", "***", text)
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return printable(re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]*", r"\1", line))[:300]


def record(files: Sequence[HubFile], about: dict[str, Any]) -> HubFile:
    """The RECORD of these files, itself included."""
    names = sorted([*(file.name for file in files), RECORD])
    return HubFile(RECORD, (json.dumps({**about, "files": names}, indent=2) + "\n").encode())
