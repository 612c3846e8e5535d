"""Data sets of the Hugging Face hub: the files of one split, downloaded once and pinned to a commit."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.clients.file_digests import cache_folder, is_offline
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe_types import HUB_DATA

SUFFIXES = (".jsonl", ".parquet", ".csv", ".tsv", ".ndjson")
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class HubData:
    """What ``hf:ORGANIZATION/NAME@REVISION#SPLIT`` names. ``split`` may have a folder before it: ``default/train``."""

    name: str
    revision: str = "main"
    split: str = "train"

    @property
    def _record(self) -> Path:
        """Where a finished download notes its commit and files."""
        key = digest_json([os.environ.get("HF_ENDPOINT", ""), self.name, self.revision, self.split])
        return cache_folder() / "hub-data" / f"{key[:16]}.json"


@dataclass(frozen=True)
class HubFiles:
    """The files of a split on this machine, and the commit that they are from."""

    commit: str
    files: tuple[Path, ...]


def parse_hub_data(text: str) -> HubData | None:
    """The data set that a value of ``dataset.pairs`` names; None for the path of a file."""
    match = HUB_DATA.fullmatch(text)
    if not match:
        return None
    return HubData(match["name"], match["revision"] or "main", match["split"] or "train")


def cached_data(data: HubData) -> HubFiles | None:
    """The files as an earlier download left them, or None. Nothing is downloaded."""
    try:
        record = json.loads(data._record.read_text(encoding="utf-8"))
        found = HubFiles(str(record["commit"]), tuple(Path(file) for file in record["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.files and all(file.is_file() for file in found.files) else None


def bring_data(data: HubData) -> HubFiles:
    """The files of the split, downloaded unless they are on this machine.

    Raises InputError for a data set or split that the hub does not have, ToolError when it cannot be reached.
    """
    if found := cached_data(data):
        return found
    if is_offline():
        raise ToolError(
            f"the data set '{data.name}' is not on this machine, and downloads are switched off",
            where="dataset.pairs",
            fix="unset RAGTUNE_OFFLINE and HF_HUB_OFFLINE, or name a file",
        )
    found = _download(data)
    record = data._record
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        aside = record.with_name(f".{record.name}.{os.getpid()}")
        aside.write_text(json.dumps({"commit": found.commit, "files": [str(file) for file in found.files]}))
        aside.replace(record)
    except OSError as error:
        raise ToolError(f"cannot be written: {error.strerror}", where=str(record), fix="free disk space") from None
    return found


def _download(data: HubData) -> HubFiles:
    import huggingface_hub
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        api = huggingface_hub.HfApi(endpoint=endpoint)
        info = api.dataset_info(data.name, revision=data.revision, timeout=_TIMEOUT_SECONDS)
        commit = str(info.sha)
        names = split_files([item.rfilename for item in info.siblings or ()], data)
        files = tuple(
            Path(
                huggingface_hub.hf_hub_download(
                    data.name, name, repo_type="dataset", revision=commit, endpoint=endpoint,
                    etag_timeout=_TIMEOUT_SECONDS,
                )
            )
            for name in names
        )  # fmt: skip
    except InputError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"the hub has no data set '{data.name}' at revision '{data.revision}', or it is private or gated: "
            f"{_first_line(error)}",
            where="dataset.pairs",
            fix="correct the name; for a gated data set accept its terms on the hub, then: hf auth login",
        ) from None
    except Exception as error:  # the client's HTTP library has errors of its own, without a common base
        raise ToolError(
            f"the download of '{data.name}' from the hub failed ({_first_line(error)})",
            where="dataset.pairs",
            fix="check the connection, then run the same command again",
        ) from None
    return HubFiles(commit, files)


def split_files(names: Sequence[str], data: HubData) -> list[str]:
    """The names of the split's data files, sorted.

    A file belongs to a split when its path has the split's words in order: ``data/train-00000-of-00002.parquet``,
    ``train/part.jsonl``. Raises InputError, with what there is, for no file, and for files of several folders.
    """
    usable = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    wanted = _words(data.split)
    found = [name for name in usable if _in_order(wanted, _words(str(PurePosixPath(name).with_suffix(""))))]
    if not found:
        listing = ", ".join(usable[:8]) or f"no file that ends in {', '.join(SUFFIXES)}"
        raise InputError(
            f"'{data.name}' has no files of the split '{data.split}': {listing}",
            where="dataset.pairs",
            fix=f"name a split that these files have, for example hf:{data.name}#test",
        )
    folders = sorted({str(PurePosixPath(name).parent) for name in found})
    kinds = sorted({PurePosixPath(name).suffix for name in found})
    if len(folders) > 1 or len(kinds) > 1:
        choices = folders if len(folders) > 1 else kinds
        raise InputError(
            f"'{data.name}' has files of the split '{data.split}' in {', '.join(choices[:8])}",
            where="dataset.pairs",
            fix=f"name the folder too: hf:{data.name}#{folders[0]}/{data.split}",
        )
    return found


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^0-9A-Za-z]+", text.lower()) if word]


def _in_order(wanted: Sequence[str], words: Sequence[str]) -> bool:
    rest = iter(words)
    return all(word in rest for word in wanted)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
