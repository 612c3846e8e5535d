"""validate: a recipe and every file that it names, checked without running anything.

All problems are told at once, each with its line, and whether the benchmark can give a verdict.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Store
from mlx_ragtune.bases.resolve import find_base
from mlx_ragtune.building.pair_sources import own_rows, require_clean
from mlx_ragtune.clients.arxiv_shelf import corpus_files
from mlx_ragtune.clients.hub_data import cached_data, parse_hub_data
from mlx_ragtune.commands.outlook import outlook_json, outlook_of, outlook_warnings
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.jsonl import read_located_rows, read_rows
from mlx_ragtune.papers.bibtex import read_catalog
from mlx_ragtune.papers.paper_names import PaperNames
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_load import load_recipe, runs_folder
from mlx_ragtune.records import Document, Question
from mlx_ragtune.scoring.answers.benchmark_rows import require_supported_benchmark
from mlx_ragtune.scoring.answers.probes import read_probes
from mlx_ragtune.scoring.judge.opinions import Label
from mlx_ragtune.scoring.verdict.possible import Outlook
from mlx_ragtune.synthesis.benchmark_file import Finding, examine
from mlx_ragtune.synthesis.benchmark_view import held_out, view_of
from mlx_ragtune.synthesis.rehearsal_prompts import prompts_of

SHOWN_FINDINGS = 40
CorpusOf = Callable[[Path], Path | None]
"""The finished corpus of a recipe's file, if it is up to date."""


@dataclass(frozen=True)
class Checked:
    """One recipe with its error, or with what its benchmark can decide and what is not on this machine yet.

    ``findings`` are about lines of the files that the recipe names; those that are errors are in ``error`` too.
    """

    recipe: str
    error: str | None
    outlook: tuple[Outlook, ...] = ()
    missing: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Why a verdict is not possible, or only for large differences, what is missing, and which lines are weak."""
        if self.error is not None:
            return []
        weak = [str(finding) for finding in self.findings if not finding.error]
        more = [f"and {len(weak) - SHOWN_FINDINGS} more warnings"] if len(weak) > SHOWN_FINDINGS else []
        return [
            *outlook_warnings(self.outlook),
            *weak[:SHOWN_FINDINGS],
            *more,
            *(f"note: {what}" for what in self.missing),
        ]

    def as_json(self) -> dict[str, Any]:
        """The row of ``ragtune validate --json``."""
        return {
            "recipe": self.recipe,
            "error": self.error,
            "verdict": outlook_json(self.outlook),
            "missing": [*self.missing],
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_recipe(path: Path, overrides: Mapping[str, Any], corpus_of: CorpusOf = lambda _path: None) -> Checked:
    """The recipe with all of its errors at once, those in its files included, and its benchmark's power."""
    try:
        recipe = load_recipe(path, overrides)
    except RecipeError as error:
        return Checked(str(path), str(error))
    corpus = corpus_of(path)
    documents = list(read_rows(corpus / "documents.jsonl", Document)) if corpus else []
    questions, findings = _files(recipe, documents, store=Store(runs_folder(path)).root)
    if errors := [finding for finding in findings if finding.error]:
        listing = "\n".join(f"  {error}" for error in errors[:SHOWN_FINDINGS])
        more = f"\n  and {len(errors) - SHOWN_FINDINGS} more" if len(errors) > SHOWN_FINDINGS else ""
        text = f"{path}: {len(errors)} problem{'s' * (len(errors) > 1)} in its files:\n{listing}{more}"
        refusal = RecipeError(text, fix="correct these lines; docs/benchmark.md describes the benchmark file")
        return Checked(str(path), str(refusal), findings=tuple(findings))
    return Checked(str(path), None, outlook_of(recipe, questions), _missing(recipe, corpus), tuple(findings))


def _files(recipe: Recipe, documents: Sequence[Document], *, store: Path) -> tuple[tuple[Question, ...], list[Finding]]:
    """The benchmark's questions, and what was found in every file that the recipe names."""
    findings: list[Finding] = []
    questions: tuple[Question, ...] = ()
    try:
        names = None if documents else _names(recipe, store)
        examined = examine(recipe.benchmark, names=names, documents=documents)
        questions = examined.questions
        findings += examined.findings
        if not examined.errors:
            require_supported_benchmark(recipe.benchmark)
    except InputError as error:
        findings.append(_finding(error))
    findings += _others(recipe, documents, questions)
    return questions, findings


def _others(recipe: Recipe, documents: Sequence[Document], questions: Sequence[Question]) -> Iterator[Finding]:
    """What was found in pairs, rehearsal prompts, probes, labels and bibliography."""
    judge, pairs, probes = recipe.scoring.judge, recipe.dataset.pairs, recipe.evaluate.probes
    rehearsal = recipe.dataset.rehearsal
    reads: list[Callable[[], object]] = []
    if recipe.corpus.bibliography is not None:
        reads.append(lambda: read_catalog(recipe.corpus.bibliography))  # type: ignore[arg-type]
    if pairs is not None and documents and not _at_hub(recipe):
        reads.append(lambda: _require_clean_rows(recipe, documents, questions))
    if rehearsal is not None:
        reads.append(lambda: prompts_of(rehearsal))
    if probes is not None:
        reads.append(lambda: read_probes(probes))
    if judge is not None and judge.labels is not None:
        ids = {question.id for question in questions}
        reads.append(lambda: _read_labels(judge.labels, ids))  # type: ignore[arg-type]
    for read in reads:
        try:
            read()
        except (InputError, RecipeError) as error:
            yield _finding(error)


def _require_clean_rows(recipe: Recipe, documents: Sequence[Document], questions: Sequence[Question]) -> None:
    """Raise InputError for rows that cannot be read, and for pairs on the benchmark's papers or with its questions."""
    rows = own_rows(recipe.dataset, documents)
    if recipe.dataset.pairs is not None and not rows.prepared:
        view = view_of(questions)
        require_clean(recipe.dataset.pairs, rows.pairs, view, held_out(view.papers, documents))


def _at_hub(recipe: Recipe) -> bool:
    """Whether the pairs are a data set of the hub that was not downloaded yet."""
    data = parse_hub_data(str(recipe.dataset.pairs))
    return data is not None and cached_data(data) is None


def _finding(error: InputError | RecipeError) -> Finding:
    """An error as a finding; without a place where the text names the lines itself."""
    return Finding(error.where, f"{error.what}; {error.fix}" if error.fix else error.what)


def _names(recipe: Recipe, store: Path) -> PaperNames:
    """The papers by their files: their titles are known once they are read."""
    return PaperNames.of_files(file.name for file in corpus_files(recipe.corpus, store)[0])


def _read_labels(path: Path, ids: set[str]) -> None:
    """Raise InputError for a row that is not a label, or is about a question that the benchmark does not have."""
    for where, label in read_located_rows(path, Label):
        if ids and label.question_id not in ids:
            raise InputError(f"question '{label.question_id:.60}' is not in the benchmark", where=where)


def _missing(recipe: Recipe, corpus: Path | None) -> tuple[str, ...]:
    """What stages will fetch or make: the base model, unless it is here or made on the spot; what pairs quote."""
    missing = []
    if _at_hub(recipe):
        missing.append(f"data set '{recipe.dataset.pairs}' is not on this machine yet: 'dataset' fetches it")
    elif recipe.dataset.pairs is not None and corpus is None:
        name = recipe.dataset.pairs.name
        missing.append(f"the quotes of {name} are checked once the papers are read: ragtune corpus RECIPE")
    model = recipe.base.model
    if not model.startswith("toy:") and find_base(recipe.base) is None:
        missing.append(
            f"base model '{model}' is not on this machine yet: 'corpus' does without it, 'dataset' fetches it"
        )
    return tuple(missing)
