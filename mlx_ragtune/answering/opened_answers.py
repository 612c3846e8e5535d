"""Opens what answers questions about a recipe's papers: corpus, retriever, models, and the examples if any."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from mlx_ragtune.answering.answer_models import AdapterModels, RegisteredModels
from mlx_ragtune.answering.paper_answers import PaperAnswers, Prompting
from mlx_ragtune.answering.paper_files import read_paper_files
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.models.adapter_files import MLX_FILES
from mlx_ragtune.records import Message, Sampling
from mlx_ragtune.searching.opened import open_retriever


@contextmanager
def open_answers(
    run: OpenRun, *, preview: bool = False, turns: int = 0, slots: int = 1, together: bool = True, at_once: bool = False
) -> Iterator[PaperAnswers]:
    """Answers of the models of a run, until the end of the context.

    With ``preview`` the embedded server answers with the adapter on the base's GGUF, before anything is fused;
    otherwise the registered models do. ``turns`` earlier exchanges of a conversation are shown to the model, and
    ``slots`` questions are answered at a time by the embedded server. Base and tuned model stay loaded ``together``
    where the memory allows it; they are opened when first asked, or ``at_once``. Raises ArtifactError when the models
    are not those of the recipe as it is now.
    """
    recipe, corpus = run.recipe, run.artifact("corpus").folder
    prompting = Prompting(
        recipe.retrieval.top_k,
        Sampling(**recipe.evaluate.sampling.model_dump()),
        think=recipe.dataset.thinking == "on",
        turns=turns,
        examples=partial(_examples, run) if recipe.evaluate.prompted is not None else None,
    )
    models = _adapter_models(run, slots) if preview else _registered_models(run, slots, together=together)
    papers = read_paper_files(corpus, recipe.corpus, run.home.parent)
    with open_retriever(recipe.retrieval, corpus) as retriever, models as opened:
        if at_once and isinstance(opened, RegisteredModels):
            opened.open_all(("tuned", "base"))
        yield PaperAnswers(retriever, papers, opened, prompting)


def _registered_models(run: OpenRun, slots: int, *, together: bool) -> RegisteredModels:
    receipts = json.loads((run.artifact("register") / "receipt.json").read_text(encoding="utf-8"))
    exported, tokens = run.artifact("export"), run.recipe.evaluate.sampling.context_tokens
    files = [exported.folder / f"{model}.gguf" for model in ("base", "tuned")]
    return RegisteredModels(
        lambda model: open_served(receipts[model], exported / f"{model}.gguf", context_tokens=tokens, slots=slots),
        together=together and (receipts["base"]["server"] == "ollama" or fit_together(files)),
    )


def fit_together(files: Sequence[Path]) -> bool:
    """Whether all these model files may be loaded at a time: they take at most half of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sum(file.stat().st_size for file in files if file.exists()) <= memory // 2


def _adapter_models(run: OpenRun, slots: int) -> AbstractContextManager[AdapterModels]:
    gguf, adapter = preview_files(run)
    return AdapterModels(gguf, adapter, context_tokens=run.recipe.evaluate.sampling.context_tokens, slots=slots)


def preview_files(run: OpenRun) -> tuple[Path, Path]:
    """The base's GGUF and the adapter's, in the run's folder; both are written if they are missing."""
    from mlx_ragtune.gguf.adapter import write_adapter
    from mlx_ragtune.gguf.writer import write_gguf

    trained, kind, strength = run.artifact("train"), run.recipe.export.type, run.recipe.fuse.strength
    folder = run.home / "preview"
    folder.mkdir(exist_ok=True)
    gguf = folder / f"base-{kind}-{run.base_digest[:12]}.gguf"
    adapter = folder / f"adapter-{trained.content(MLX_FILES)[:12]}{'' if strength is None else f'-{strength:g}'}.gguf"
    for stale in folder.glob("*.gguf"):
        if stale not in (gguf, adapter):
            stale.unlink()
    if not gguf.exists():
        with run.track("writing the base model's GGUF, once", 0) as track:
            write_gguf(run.base, gguf, type=kind, name="base", progress=track.reach)
    if not adapter.exists():
        write_adapter(trained.folder, run.base, adapter, strength=strength)
    return gguf, adapter


def _examples(run: OpenRun) -> tuple[Message, ...]:
    """The earlier chat turns of the prompted base: the same as in the evaluation."""
    from mlx_ragtune.evaluation.prompted import recipe_examples
    from mlx_ragtune.models.prompts import load_tokenizer

    folders = {"corpus": run.artifact("corpus").folder, "dataset": run.artifact("dataset").folder}
    examples = recipe_examples(run.recipe, folders, load_tokenizer(run.base))
    return examples.messages if examples is not None else ()
