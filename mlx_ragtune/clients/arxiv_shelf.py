"""Papers of arXiv on this machine: PDFs in the cache, and beside the runs what was downloaded, with its checksum.

    ~/.cache/mlx-ragtune/arxiv/2305.14314v1.pdf   shared by all projects; may be deleted at any time
    runs/.store/arxiv.jsonl                       id, version, sha256, title, authors, year; kept

A paper that is downloaded again must have the checksum of the first time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_ragtune.artifact import digest_file, digest_json
from mlx_ragtune.clients.arxiv import ArxivClient, NotThereError, one_at_a_time
from mlx_ragtune.clients.file_digests import cache_folder, is_offline
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.papers.arxiv_ids import ArxivId, parse_arxiv_id
from mlx_ragtune.papers.folder import PaperFile, list_papers
from mlx_ragtune.recipe import CorpusSettings

RECORDS = "arxiv.jsonl"
"""File in the store of runs."""
STALE_SECONDS = 24 * 3600.0
"""After this time arXiv is asked again for newer versions, and for papers that it did not have."""
NOT_DOWNLOADED = "not downloaded yet"
Say = Callable[[str], None]


@dataclass(frozen=True)
class ArxivRecord:
    """A paper as it was downloaded first; ``problem`` says why arXiv has no PDF. The last row for an id counts.

    ``paper`` is the id in the recipe, ``asked_at`` the time (seconds since 1970) at which arXiv described it.
    """

    paper: str
    version: int = 0
    sha256: str = ""
    bytes: int = 0
    title: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    problem: str = ""
    asked_at: float = 0.0
    newest: int = 0

    @property
    def requested(self) -> ArxivId:
        """The id in the recipe."""
        identifier = parse_arxiv_id(self.paper)
        assert identifier is not None  # noqa: S101 (checked by the recipe)
        return identifier

    @property
    def exact(self) -> ArxivId:
        """The id with the version that was downloaded."""
        return ArxivId(self.requested.id, self.version)


@dataclass(frozen=True)
class ArxivPaper:
    """A paper that a recipe asks for: its file on this machine, and its record, None before the download."""

    file: PaperFile
    record: ArxivRecord | None

    @property
    def digest(self) -> str:
        """Digest of the PDF, and of what arXiv says about it; "" before the download."""
        record = self.record
        return digest_json([record.sha256, record.title, record.authors, record.year]) if record else ""


def corpus_files(
    settings: CorpusSettings, store: Path | None, *, digest: Callable[[Path], str] = digest_file
) -> tuple[list[PaperFile], dict[str, ArxivRecord]]:
    """The files of the folder, then those of arXiv, and the records of these by name.

    ``store`` is the root of the store of runs. Raises InputError as ``list_papers``.
    """
    files = list_papers(settings.folder) if settings.folder else []
    shelved = ArxivShelf(store / RECORDS if store else None, digest=digest).papers(settings.arxiv)
    return [*files, *(paper.file for paper in shelved)], {
        paper.file.name: paper.record for paper in shelved if paper.record
    }


class ArxivShelf:
    """The papers of a project, which ``records`` lists."""

    def __init__(self, records: Path | None, *, digest: Callable[[Path], str] = digest_file) -> None:
        self._records, self._digest = records, digest
        self._folder = cache_folder() / "arxiv"

    def papers(self, ids: Sequence[str]) -> list[ArxivPaper]:
        """The papers in the order of the ids, as far as they are on this machine. Asks nobody."""
        known = self._known()
        return [self._paper(name, known.get(name)) for name in ids]

    def _paper(self, name: str, record: ArxivRecord | None) -> ArxivPaper:
        identifier = parse_arxiv_id(name)
        assert identifier is not None  # noqa: S101 (checked by the recipe)
        path = self._path(record.exact if record else identifier)
        problem = record.problem if record else NOT_DOWNLOADED
        if record and not problem and not self._is_there(record):
            problem = NOT_DOWNLOADED
        return ArxivPaper(PaperFile(path, f"arxiv/{identifier.file_stem}.pdf", problem), record)

    def _path(self, paper: ArxivId) -> Path:
        return self._folder / f"{paper.file_stem}.pdf"

    def _is_there(self, record: ArxivRecord) -> bool:
        """Whether the PDF is in the cache, with the checksum of the record."""
        path = self._path(record.exact)
        try:
            return path.stat().st_size == record.bytes and self._digest(path) == record.sha256
        except (OSError, InputError):
            return False

    def _known(self) -> dict[str, ArxivRecord]:
        if self._records is None or not self._records.exists():
            return {}
        with RowLog(self._records) as log:
            return {row.paper: row for row in log.rows(ArxivRecord)}

    def bring(self, ids: Sequence[str], *, say: Say, wait: Callable[[float], None] = time.sleep) -> None:
        """Download what is missing. What was downloaded stays when a later paper fails.

        A paper that arXiv does not have, or has withdrawn, gets a record with the problem. Raises ToolError when
        arXiv cannot be reached, InputError when it serves other bytes than the first time.
        """
        missing, stale = self._wanted(ids, self._known())
        if self._records is None or not (missing or stale):
            return
        if is_offline():
            if missing:
                raise ToolError(
                    f"{', '.join(missing[:5])}: {NOT_DOWNLOADED}, and downloads are switched off",
                    where="corpus.arxiv",
                    fix="unset RAGTUNE_OFFLINE and HF_HUB_OFFLINE, and run the same command again",
                )
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._records.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ToolError(
                f"cannot store papers of arXiv: {error.strerror}",
                where=str(self._folder),
                fix="free disk space, or set RAGTUNE_CACHE to a folder that can be written",
            ) from None
        with (
            one_at_a_time(self._folder / ".lock", say),
            ArxivClient(self._folder / ".last-request", wait=wait, say=say) as client,
            RowLog(self._records) as log,
        ):
            known = self._known()  # another process may have downloaded them meanwhile
            missing, stale = self._wanted(ids, known)
            self._describe_again(stale, known, client, log, say=say)
            self._download(missing, known, client, log, say=say)

    def _wanted(self, ids: Sequence[str], known: Mapping[str, ArxivRecord]) -> tuple[list[str], list[str]]:
        """The ids to download, and those to ask about again."""
        missing = [name for name in ids if self._paper(name, known.get(name)).file.problem == NOT_DOWNLOADED]
        return missing, [name for name in ids if name not in missing and self._is_stale(known[name])]

    def _is_stale(self, record: ArxivRecord) -> bool:
        """Whether arXiv may know more by now: a newer version, or a paper that it did not have."""
        may_change = bool(record.problem) or record.requested.version is None
        return may_change and not 0 <= time.time() - record.asked_at < STALE_SECONDS

    def _describe_again(
        self, names: Sequence[str], known: dict[str, ArxivRecord], client: ArxivClient, log: RowLog, *, say: Say
    ) -> None:
        """Tell of newer versions; papers that arXiv has by now are downloaded. Without a connection all stays."""
        if not names:
            return
        asked = [known[name].requested for name in names]
        try:
            descriptions = client.describe(asked, attempts=1)
        except ToolError as error:
            say(f"arXiv was not asked for newer versions: {error.what}")
            for name in names:  # not again today: without a network each question takes long
                log.append(replace(known[name], asked_at=time.time()))
            return
        for name, identifier in zip(names, asked, strict=True):
            newest = descriptions[identifier].id.version or 0 if identifier in descriptions else 0
            record = replace(known[name], asked_at=time.time(), newest=newest)
            if record.problem and newest and newest != record.version:
                record = replace(record, problem="", version=0, sha256="", bytes=0)
            log.append(record)
            known[name] = record
            if record.version and newest > record.version:
                say(f"note: arXiv has {record.requested.id}v{newest}; the corpus uses {record.exact}")
        again = [name for name in names if not known[name].problem and not known[name].version]
        self._download(again, known, client, log, say=say)

    def _download(
        self, names: Sequence[str], known: dict[str, ArxivRecord], client: ArxivClient, log: RowLog, *, say: Say
    ) -> None:
        if not names:
            return
        say(f"arXiv: downloading {len(names)} paper{'s' * (len(names) != 1)}, one request every 3 seconds")
        unknown = [parse_arxiv_id(name) for name in names if not known.get(name) or not known[name].version]
        descriptions = client.describe([identifier for identifier in unknown if identifier])
        for name in names:
            record = known.get(name)
            if record is None or not record.version:
                identifier = parse_arxiv_id(name)
                description = descriptions.get(identifier) if identifier else None
                if description is None:
                    log.append(ArxivRecord(name, problem="arXiv does not have it", asked_at=time.time()))
                    continue
                record = ArxivRecord(
                    name,
                    description.id.version or 1,
                    title=description.title,
                    authors=description.authors,
                    year=description.year,
                    problem="withdrawn" if description.is_withdrawn else "",
                    asked_at=time.time(),
                    newest=description.id.version or 1,
                )
            self._download_one(record, client, log, say)

    def _download_one(self, record: ArxivRecord, client: ArxivClient, log: RowLog, say: Say) -> None:
        target = self._path(record.exact)
        try:
            content = client.pdf(record.exact)
        except NotThereError as error:
            withdrawn = record.problem or "withdrawn" in str(error)
            reason = (
                f"it was withdrawn, {record.exact} has no PDF" if withdrawn else f"no PDF of {record.exact} ({error})"
            )
            log.append(replace(record, problem=f"arXiv: {reason}"))
            return
        partial = target.with_suffix(".partial")
        try:
            partial.write_bytes(content)
            sha256 = digest_file(partial)
            if record.sha256 and sha256 != record.sha256:
                raise InputError(
                    f"arXiv serves another file for {record.exact} than the first time: "
                    f"sha256 {sha256[:16]}… instead of {record.sha256[:16]}…",
                    where=f"arXiv {record.paper}",
                    fix=f'to accept the new file, remove the lines of "{record.paper}" from {self._records}; '
                    f"to keep the old one, copy it to {target}",
                )
            partial.rename(target)
        except OSError as error:
            raise ToolError(
                f"cannot store {record.exact}: {error.strerror}",
                where=str(self._folder),
                fix="free disk space, or set RAGTUNE_CACHE to a folder that can be written",
            ) from None
        finally:
            partial.unlink(missing_ok=True)
        log.append(replace(record, sha256=sha256, bytes=len(content), problem=""))
        say(f"arXiv: {record.exact} downloaded ({len(content) / 2**20:.1f} MiB)")
