"""Reads a recipe and reports every error at once with its line: the schema's, and those between keys.

Relative paths start at the recipe's folder and must stay inside the project (the nearest folder above with a
``.git``, ``pyproject.toml`` or ``recipes`` folder) or the user's home. An absolute path may be anywhere.
"""

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from mlx_ragtune.recipe import DatasetSettings, Recipe, TrainSettings
from mlx_ragtune.recipe_layers import read_layers, recorded, variant_name
from mlx_ragtune.recipe_sweep import sweep_problems
from mlx_ragtune.recipe_types import HUB_ADAPTER, HUB_DATA
from mlx_ragtune.recipe_yaml import (
    Problems,
    Written,
    absolute_path,
    describe_errors,
    host_problems,
    name_problem,
    path_problem,
    problems_error,
    project_folder,
    without_credentials,
)

UNUSED: tuple[tuple[str, str, object, object], ...] = (
    ("train.tokens_per_step", "train.engine", "mlx-lm", None),
    ("train.report_to", "train.engine", "mlx-lm", ()),
    ("train.weight_decay", "train.optimizer", "adam", 0),
    ("train.select_best", "train.select", "loss", None),
    ("train.preference.weight", "train.preference.method", "orpo", 1),
    ("register.route", "register.serve", "llamacpp", "mlx"),  # an error of its own
    ("register.name", "register.serve", "llamacpp", None),
    ("register.host", "register.serve", "llamacpp", None),
    ("dataset.valid_share", "dataset.split", "none", None),
    ("dataset.test_share", "dataset.split", "none", 0),
    ("train.patience", "dataset.split", "none", None),
    ("train.evals_per_epoch", "dataset.split", "none", None),
    ("train.select", "dataset.split", "none", "loss"),
    ("dataset.generator.hosts", "dataset.generator.backend", "llamacpp", None),
    ("dataset.generator.hosts", "dataset.generator.backend", "mlx", None),
    ("dataset.generator.package", "dataset.generator.backend", "ollama", None),
    ("dataset.generator.package", "dataset.generator.backend", "openai", None),
    ("dataset.generator.pairs_per_call", "dataset.generator.answers", "quoted", None),
    ("retrieval.embedding.host", "retrieval.embedding.backend", "llamacpp", None),
    ("scoring.judge.host", "scoring.judge.backend", "llamacpp", None),
    ("scoring.similarity.host", "scoring.similarity.backend", "llamacpp", None),
    ("evaluate.sampling.top_k", "evaluate.sampling.temperature", 0, 0),
    ("evaluate.sampling.top_p", "evaluate.sampling.temperature", 0, 1),
    ("evaluate.sampling.min_p", "evaluate.sampling.temperature", 0, 0),
)
"""(key, other key, value, off): ``key`` has no effect while the other key has that value; ``off`` says the same."""

_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_LOCAL = (".", "/", "~")
_AT_HUB = "hf:"
_MODEL_NAMES = "a hub id (ORGANIZATION/NAME), a path that starts with './' or '/', ollama:NAME or toy:qwen3"


def _rule_problems(written: Written) -> Iterator[tuple[str, str]]:
    """Keys that contradict each other or have no effect, each with a description."""
    for key, other, when, off in UNUSED:
        value = written.get(key)
        if value is not None and value != off and written.setting(Recipe, other) == when:
            layers = _layers(written, key, other)
            yield key, f"no effect with '{other}: {when}'; remove '{key}', or change '{other}'{layers}"
    if isinstance(written.get("train"), dict):
        yield from _train_problems(written)
    if isinstance(written.get("dataset"), dict):
        yield from _dataset_problems(written)
    corpus = written.get("corpus")
    if isinstance(corpus, dict) and not corpus.get("folder") and not corpus.get("arxiv"):
        yield "corpus", "give 'folder', 'arxiv' or both"
    yield from _base_problems(written)
    tokens, overlap = (written.setting(Recipe, f"corpus.{name}_tokens") for name in ("chunk", "overlap"))
    if _is_number(tokens) and _is_number(overlap) and overlap > tokens / 2:
        yield "corpus.overlap_tokens", f"more than half of 'chunk_tokens' ({tokens}); lower 'overlap_tokens'"
    yield from _evaluate_problems(written)
    yield from _retrieval_problems(written)
    if written.get("register.route") == "mlx" and written.setting(Recipe, "register.serve") != "ollama":
        yield "register.route", "'route: mlx' needs 'serve: ollama'"
    if written.get("scoring.similarity.backend") == "ollama" and not written.get("scoring.similarity.model"):
        yield "scoring.similarity", "'backend: ollama' needs 'model', for example nomic-embed-text"


def _layers(written: Written, *keys: str) -> str:
    """Where two keys that contradict each other come from, when that is not the same layer, and what to do."""
    given = {key: written.origin(key) for key in keys if written.get(key) is not None}
    first, last = min(given.values(), default=None), max(given.values(), default=None)
    if first is None or last is None or first.layer == last.layer:
        return ""
    places = ", ".join(f"'{key}' is from {origin}" for key, origin in given.items())
    undone = next(key for key, origin in given.items() if origin == last)
    return f" ({places}; '{undone}: null' takes it back)"


def _train_problems(written: Written) -> Iterator[tuple[str, str]]:
    train = {name: written.setting(Recipe, f"train.{name}") for name in TrainSettings.model_fields}
    if (train["alpha"] is None) == (train["scale"] is None):
        yield "train", f"give exactly one of 'alpha' and 'scale'{_layers(written, 'train.alpha', 'train.scale')}"
    elif train["rank_stabilized"] is True and train["alpha"] is None:
        yield "train.rank_stabilized", "no effect with 'scale'; remove it, or give 'alpha' instead of 'scale'"
    if train["frozen_store"] is True and (train["layers"] == "all" or train["engine"] != "shared-prefix"):
        yield "train.frozen_store", "'frozen_store' needs 'layers: N' and 'engine: shared-prefix'"
    if train["grad_checkpoint"] is True and train["engine"] == "mlx-lm":
        yield "train.grad_checkpoint", "not supported with 'engine: mlx-lm'; use 'engine: shared-prefix'"
    adapter = written.get("train.from_adapter")
    if isinstance(adapter, str) and adapter.startswith(_AT_HUB) and not HUB_ADAPTER.fullmatch(adapter):
        yield "train.from_adapter", f"'{adapter:.80}' is not hf:USER/NAME or hf:USER/NAME@REVISION"
    for name in ("kl", "preference"):
        if train[name] is not None and train["engine"] == "mlx-lm":
            yield f"train.{name}", "not supported with 'engine: mlx-lm'; use 'engine: shared-prefix'"
    rehearses = written.get("dataset.rehearsal") is not None
    if train["kl"] is not None and written.setting(Recipe, "train.kl.tokens") == "rehearsal" and not rehearses:
        yield "train.kl", "'tokens: rehearsal' needs 'dataset.rehearsal'; add it, or set 'tokens: all'"
    if train["strength"] is not None and not rehearses:
        problem = "needs the base model's own answers; add 'rehearsal: {share: 0.1}' to 'dataset' (0: measure only)"
        yield "train.strength", problem
    if train["method"] == "dora":
        for key in ("train.strength", "fuse.strength"):
            if written.get(key) is not None:
                yield key, "not supported with 'method: dora', whose effect is not in proportion; use 'method: lora'"
    patience, epochs, evals = train["patience"], train["epochs"], train["evals_per_epoch"]
    if all(_is_number(number) and 0 < number <= 4096 for number in (patience, epochs, evals)):
        validations = epochs * evals
        if validations <= 1 or patience >= 1.5 * validations:  # rounding adds up to half as many validations
            problem = f"no effect: the run validates about {max(1, round(validations))} times"
            yield "train.patience", f"{problem}; lower 'patience', or raise 'epochs' or 'evals_per_epoch'"


def _dataset_problems(written: Written) -> Iterator[tuple[str, str]]:
    dataset = {name: written.setting(Recipe, f"dataset.{name}") for name in DatasetSettings.model_fields}
    if (dataset["pairs"] is None) == (dataset["generator"] is None):
        layers = _layers(written, "dataset.pairs", "dataset.generator")
        yield "dataset", f"give exactly one of 'pairs' and 'generator'{layers}"
    shares = dataset["shares"]
    if isinstance(shares, dict) and all(_is_number(share) for share in shares.values()):
        total = sum(shares.values())
        if abs(total - 1) > 1e-6:
            yield "dataset.shares", f"'shares' must sum to 1, not {total:g}"
        no_refusals = not shares.get("refusal")
        if written.get("dataset.generator.answers") == "quoted" and shares.get("synthesis"):
            fix = "set 'shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}'"
            yield "dataset.shares", f"'answers: quoted' quotes one paper and writes no synthesis pairs; {fix}"
    else:
        no_refusals = False
    if written.get("dataset.generator.backend") == "openai" and written.get("dataset.generator.hosts") is None:
        yield "dataset.generator.backend", "'backend: openai' needs 'hosts', for example [http://127.0.0.1:1234/v1]"
    model = written.get("dataset.generator.model")
    if written.get("dataset.generator.backend") in ("llamacpp", "mlx") and isinstance(model, str) and model:
        at_hub = not _names_path(written, "dataset.generator")
        if at_hub and not _is_model_name(model):
            yield "dataset.generator.model", f"'{without_credentials(model):.80}' is not {_MODEL_NAMES}"
        elif not (at_hub and _HUB_ID.fullmatch(model)) and written.get("dataset.generator.package") is not None:
            problem = f"no effect with '{model:.80}', which is not a hub id; remove 'package'"
            yield "dataset.generator.package", problem
    held_out = (dataset["valid_share"], dataset["test_share"])
    if all(_is_number(share) and 0 <= share <= 0.5 for share in held_out) and sum(held_out) > 0.5 + 1e-9:
        yield "dataset.test_share", "'valid_share' + 'test_share' leave less than half of the papers for training"
    pairs = written.get("dataset.pairs")
    if isinstance(pairs, str) and pairs.startswith(_AT_HUB) and not HUB_DATA.fullmatch(pairs):
        yield "dataset.pairs", f"'{pairs:.80}' is not hf:ORGANIZATION/NAME, hf:NAME@REVISION or hf:NAME#SPLIT"
    for key in ("format", "columns"):
        if written.get(f"dataset.{key}") and dataset["generator"] is not None:
            yield f"dataset.{key}", f"no effect with 'generator'; remove 'dataset.{key}'"
    if written.get("dataset.refusal_kinds") is not None:
        if dataset["generator"] is not None:
            yield "dataset.refusal_kinds", "no effect with 'generator'; remove 'dataset.refusal_kinds'"
        elif no_refusals:
            yield "dataset.refusal_kinds", "no effect without refusals in 'shares'; remove 'dataset.refusal_kinds'"
        elif dataset["refusal_kinds"] == ():
            yield "dataset.refusal_kinds", "give at least one kind, or set the share of 'refusal' to 0"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_model_name(name: str) -> bool:
    """Whether it can name a model as ``base.model`` does."""
    return name.startswith((*_LOCAL, "ollama:", "toy:")) or (_HUB_ID.fullmatch(name) is not None and len(name) <= 96)


def _base_problems(written: Written) -> Iterator[tuple[str, str]]:
    model = written.get("base.model")
    if not isinstance(model, str) or not model:
        return
    if not model.startswith((*_LOCAL, "ollama:", "toy:")):
        if not _is_model_name(model):
            yield "base.model", f"'{without_credentials(model):.80}' is not {_MODEL_NAMES}"
        return
    for key in ("base.revision", "base.package"):
        if written.get(key) is not None:
            yield key, f"no effect with 'base.model: {model:.80}', which is not a hub id; remove '{key}'"


def _evaluate_problems(written: Written) -> Iterator[tuple[str, str]]:
    seeds, temperature = written.get("evaluate.seeds"), written.setting(Recipe, "evaluate.sampling.temperature")
    if isinstance(seeds, tuple) and len(seeds) > 1 and temperature == 0:
        yield "evaluate.seeds", "every seed gives the same answer at temperature 0; give one seed, or set a temperature"
    if written.setting(Recipe, "evaluate.engine") == "mlx":
        for key, value in (("temperature", 0), ("repeat_penalty", 1)):
            if written.setting(Recipe, f"evaluate.sampling.{key}") != value:
                problem = f"'engine: mlx' answers greedily; set it to {value}, or use 'engine: served'"
                yield f"evaluate.sampling.{key}", problem
    answer, window = (written.setting(Recipe, f"evaluate.sampling.{name}") for name in ("max_tokens", "context_tokens"))
    if _is_number(answer) and _is_number(window) and 256 <= window <= answer:
        yield "evaluate.sampling.max_tokens", f"leaves no room for a prompt in 'context_tokens' ({window})"


def _paths(written: Written) -> Iterator[tuple[str, Literal["file", "folder", "model"]]]:
    """The keys that hold a path, each with what should be there."""
    yield "corpus.folder", "folder"
    if not str(written.get("train.from_adapter")).startswith(_AT_HUB):
        yield "train.from_adapter", "folder"
    for key in ("benchmark", "corpus.bibliography", "dataset.pairs", "dataset.rehearsal.prompts", "evaluate.probes"):
        if not str(written.get(key)).startswith(_AT_HUB) or key != "dataset.pairs":
            yield key, "file"
    yield "scoring.judge.labels", "file"
    if str(written.get("base.model")).startswith(_LOCAL):
        yield "base.model", "model"
    for section in ("retrieval.embedding", "retrieval.rerank"):
        if _names_path(written, section):
            yield f"{section}.model", "model"
    generator = "dataset.generator"
    if written.get(f"{generator}.backend") in ("llamacpp", "mlx") and _names_path(written, generator):
        yield f"{generator}.model", "model"
    for section in ("scoring.judge", "scoring.similarity"):
        if written.setting(Recipe, f"{section}.backend") == "llamacpp":
            yield f"{section}.model", "file"


def path_keys(written: Written) -> list[str]:
    """The dotted keys that hold a path in this recipe, or would if they were given."""
    return [key for key, _kind in _paths(written)]


def _names_path(written: Written, section: str) -> bool:
    """Whether the section's model is a file or a folder, not a hub id or a name at Ollama."""
    model = written.get(f"{section}.model")
    local = isinstance(model, str) and (model.startswith(_LOCAL) or model.endswith(".gguf"))
    return local and written.get(f"{section}.backend") != "ollama"


def _retrieval_problems(written: Written) -> Iterator[tuple[str, str]]:
    if written.get("retrieval.store") == "lancedb" and written.get("retrieval.embedding") is None:
        yield "retrieval.store", "no effect without 'retrieval.embedding'; remove 'store', or name an embedding model"
    for section in ("retrieval.embedding", "retrieval.rerank"):
        model = written.get(f"{section}.model")
        at_hub = not _names_path(written, section) and written.get(f"{section}.backend") != "ollama"
        if isinstance(model, str) and at_hub and (not _HUB_ID.fullmatch(model) or len(model) > 96):
            known = "a .gguf file, a folder that starts with './' or '/', or a hub id (ORGANIZATION/NAME)"
            yield f"{section}.model", f"'{without_credentials(model):.80}' is not {known}"


def _path_problems(written: Written, missing_ok: Collection[str]) -> Iterator[tuple[str, str]]:
    for key, kind in _paths(written):
        path = written.get(key)
        if isinstance(path, str) and tuple(key.split(".")) not in written.broken:
            source = written.origin(key).source
            project = project_folder(source).resolve()
            problem = path_problem(path, folder=source.parent, project=project, kind=kind)
            if problem and not (key in missing_ok and _is_missing(path, source.parent)):
                yield key, problem


def runs_folder(near: Path) -> Path:
    """Where runs are kept: ``$RAGTUNE_RUNS``, else ``runs/`` of the project that holds the file ``near``."""
    return Path(os.environ.get("RAGTUNE_RUNS") or project_folder(near.resolve()) / "runs").expanduser()


def _absolute(recipe: Recipe, written: Written) -> Recipe:
    """The same recipe with every path absolute and links followed."""
    for key, _kind in _paths(written):
        path = written.get(key)
        if path is not None:
            target = absolute_path(path, written.origin(key).source.parent).resolve()
            recipe = _replaced(recipe, key.split("."), str(target) if key.endswith(".model") else target)
    return recipe


def _replaced(settings: Any, keys: list[str], value: object) -> Any:
    """A copy with the value at a place below it."""
    first, *rest = keys
    return settings.model_copy(update={first: _replaced(getattr(settings, first), rest, value) if rest else value})


def _is_missing(written: str, folder: Path) -> bool:
    """Whether nothing is at a path in a recipe, in a folder that exists: a file that a command may still write."""
    try:
        target = absolute_path(written, folder)
        return not target.is_symlink() and not target.exists() and target.parent.is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _lacks_benchmark(written: Written) -> bool:
    """Whether the benchmark is a file that does not exist yet, which ``ragtune draft`` writes."""
    path = written.get("benchmark")
    return isinstance(path, str) and _is_missing(path, written.origin("benchmark").source.parent)


def load_recipe(
    path: Path, overrides: Mapping[str, Any] = MappingProxyType({}), *, missing_ok: Collection[str] = ()
) -> Recipe:
    """A checked recipe with absolute paths: the file, what it extends, and ``overrides`` by dotted key.

    With ``overrides`` it is a variant, with a name of its own: ``recipe_layers.variant_name``. ``missing_ok`` names
    keys of files that need not exist yet. Raises RecipeError that lists every problem with file:line, or with the
    override.
    """
    written = read_layers(path, overrides)
    problems: Problems = list(written.problems)
    if "name" in written.value:
        problems.append((written.origin("name"), "unknown key 'name': a recipe is named by its file"))
    if problem := name_problem(path):
        problems.append((written.start, problem))
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate({**written.value, "name": path.stem})
    except ValidationError as error:
        problems += describe_errors(error, written, Recipe)
    for check in (_rule_problems(written), host_problems(written), _path_problems(written, missing_ok)):
        problems += [(written.origin(key), f"{key}: {what}") for key, what in check]
    problems += sweep_problems(written, _rule_problems)
    if problems or recipe is None:
        refusal = problems_error(path, problems)
        if len(problems) == 1 and "benchmark" not in missing_ok and _lacks_benchmark(written):
            refusal.fix = f"ragtune draft {shlex.quote(str(path))}"
        raise refusal
    named = recipe.model_copy(update={"name": variant_name(path.stem, recorded(overrides, recipe))})
    return _absolute(named, written)
