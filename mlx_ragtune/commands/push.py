"""``ragtune push``: what of a run goes to the hub, its card, and the search for what must not leave the machine."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune import __version__
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.hub_names import hub_id, public_model
from mlx_ragtune.clients.hub_upload import HubFile, Uploaded, check_repository, record, upload
from mlx_ragtune.commands.adapter_folders import export_peft
from mlx_ragtune.commands.model_card import CardFacts, model_card, public_settings
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.model_folder import PATTERNS
from mlx_ragtune.records import Document, Example, Question
from mlx_ragtune.scoring.verdict.comparison import read_outcome

What = Literal["adapter", "fused", "gguf"]
CARD = "README.md"
_LEAST_WORDS, _LEAST_LETTERS = 3, 12
"""Shorter titles and questions are ordinary words, which a tokenizer may hold."""
_HEAD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Parcel:
    """The files that go to a repository, and its card."""

    repository: str
    what: What
    files: tuple[HubFile, ...]
    card: str

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)


def pack(run: OpenRun, repository: str, folder: Path, *, what: What, license_id: str | None) -> Parcel:
    """The files for a repository; ``folder`` is an empty one for those that have to be written.

    Raises ArtifactError when a stage is not up to date, and InputError when a file holds a path or name of this
    machine, the title of a paper, or a question.
    """
    check_repository(repository)
    outcome = read_outcome(run.artifact("evaluate") / "verdict.json")
    weights = _weights(run, repository, folder, what)
    recipe = run.recipe
    facts = CardFacts(
        repository=repository,
        what=what,
        base=public_model(recipe.base.model, recipe.base.package),
        base_id=hub_id(recipe.base.model),
        license_id=license_id or _stated_license(run.base),
        outcome=outcome,
        settings=public_settings(recipe),
        rows=_row_counts(run),
        papers=sum(1 for _ in read_rows(run.artifact("corpus") / "documents.jsonl", Document)),
        kind=recipe.export.type if what == "gguf" else "",
        version=__version__,
    )
    card = model_card(facts)
    named = [HubFile(CARD, card.encode()), *weights]
    about = {"made_by": f"ragtune {__version__}", "what": what, "base": facts.base, "verdict": outcome.verdict}
    parcel = Parcel(repository, what, (*named, record(named, about)), card)
    require_nothing_private(parcel.files, list(private_texts(run)))
    return parcel


def send(parcel: Parcel, run: OpenRun, *, public: bool, replace: bool, say: Callable[[str], None]) -> Uploaded:
    """Upload the parcel. Raises ToolError as ``hub_upload.upload``."""
    with run.track(f"uploading to {parcel.repository}", parcel.size) as track:
        return upload(
            parcel.repository,
            parcel.files,
            public=public,
            replace=replace,
            message=f"{parcel.what} by ragtune {__version__}",
            track=track,
            say=say,
        )


def _weights(run: OpenRun, repository: str, folder: Path, what: What) -> list[HubFile]:
    if what == "adapter":
        export_peft(run, folder)
        return [HubFile(file.name, file) for file in sorted(folder.iterdir())]
    if what == "fused":
        model = run.artifact("fuse") / "model"
        files = {file.name: file for pattern in PATTERNS for file in model.glob(pattern) if file.is_file()}
        return [HubFile(name, file) for name, file in sorted(files.items())]
    name = repository.partition("/")[2]
    return [HubFile(f"{name}-{run.recipe.export.type}.gguf", run.artifact("export") / "tuned.gguf")]


def _row_counts(run: OpenRun) -> dict[str, int]:
    """Training rows by kind."""
    counts: dict[str, int] = {}
    for row in read_rows(run.artifact("dataset") / "examples-train.jsonl", Example):
        counts[row.kind] = counts.get(row.kind, 0) + 1
    return counts


def _stated_license(base: Path) -> str:
    """What the base's own card says in its head; empty where there is none."""
    try:
        lines = (base / CARD).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"")
    return ""


def private_texts(run: OpenRun) -> Iterator[tuple[str, str]]:
    """(what it is, a text) for everything that no file may hold."""
    recipe = run.recipe
    folders = {Path.home(), Path.cwd(), run.home, run.base, *(run.home.parents[:2])}
    folders |= {path for path in (recipe.corpus.folder, recipe.benchmark, recipe.dataset.pairs) if path is not None}
    for path in folders:
        text = str(path)
        if text.startswith("/") and len(path.parts) > 2:
            yield "a path of this machine", text
    if len(host := platform.node()) >= 6:
        yield "the name of this machine", host
    for document in read_rows(run.artifact("corpus") / "documents.jsonl", Document):
        yield "the title of a paper", document.title
        yield "the file name of a paper", Path(document.path).name
    for question in read_rows(recipe.benchmark, Question):
        yield "a question of the benchmark", question.question


def require_nothing_private(files: Sequence[HubFile], texts: Sequence[tuple[str, str]]) -> None:
    """Raise InputError for a file with one of the texts. Of weights, the head with its metadata is searched."""
    wanted = [
        (what, text.encode())
        for what, text in texts
        if text.startswith("/") or what.endswith("machine") or _is_particular(text)
    ]
    for file in files:
        head = file.source[:_HEAD_BYTES] if isinstance(file.source, bytes) else _head(file.source)
        for what, text in wanted:
            if text in head:
                raise InputError(
                    f"{file.name} contains {what}: '{text.decode()[:80]}'",
                    where=file.name,
                    fix="it would be published; nothing was sent. Report this, with the command, as a bug of ragtune",
                )


def _is_particular(text: str) -> bool:
    """Whether a text is long enough that it cannot be there by chance."""
    return (len(text.split()) >= _LEAST_WORDS and len(text) >= _LEAST_LETTERS) or ("." in text and len(text) > 20)


def _head(path: Path) -> bytes:
    """What of a file is text: all of it, or the metadata before the numbers."""
    with path.open("rb") as stream:
        if path.suffix == ".safetensors":
            length = int.from_bytes(stream.read(8), "little")
            return stream.read(min(length, _HEAD_BYTES))
        if path.suffix == ".gguf":
            from mlx_ragtune.clients.gguf_header import read_header

            return json.dumps(read_header(path), ensure_ascii=False).encode()
        return stream.read(_HEAD_BYTES)


def as_json(parcel: Parcel, uploaded: Uploaded | None) -> dict[str, Any]:
    """The parcel, and where it is now, for a script."""
    return {
        "repository": parcel.repository,
        "what": parcel.what,
        "files": [{"name": file.name, "bytes": file.size} for file in parcel.files],
        "bytes": parcel.size,
        "card": parcel.card,
        "uploaded": None if uploaded is None else {"url": uploaded.url, "commit": uploaded.commit},
    }


def shown(parcel: Parcel) -> str:
    """The list of files and the card, for people."""
    from mlx_ragtune.pages.tables import render_table

    rows = [[file.name, _size(file.size)] for file in parcel.files]
    table = render_table(["file", "size"], [*rows, ["all files", _size(parcel.size)]])
    return f"{table}\n\n{CARD}:\n\n{parcel.card}"


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
