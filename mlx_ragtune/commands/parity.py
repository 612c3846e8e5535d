"""``ragtune parity``: every hand-off of a finished run measured again, at one or every GGUF type."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.errors import InputError, RagtuneError
from mlx_ragtune.gguf.adapter import write_adapter
from mlx_ragtune.gguf.engine_parity import (
    Listed,
    Parity,
    check_effect,
    check_parity,
    compare_next_tokens,
    effect_size,
    in_engine,
)
from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.prompts import Prompt, rendered
from mlx_ragtune.retrieval.fixed import fixed_prompts
from mlx_ragtune.scoring.answers.benchmark_rows import question_texts
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.tuning.logits import next_token_logits
from mlx_ragtune.tuning.merge import adapted_logits

Logits = npt.NDArray[np.float32]
HEADERS = ["hand-off", "tokens", "max |Δ|", "same first", "mean KL", "effect", ""]


@dataclass(frozen=True)
class HandOff:
    """One step from the trained model to the served one, over all prompts.

    ``tokens_equal`` is None where no text is split; ``max_difference`` is of logits within MLX, of log
    probabilities to the engine; ``effect``: KL(tuned ‖ base) as served, in nats.
    """

    name: str
    tokens_equal: bool | None
    max_difference: float
    top1_agreement: float
    mean_kl: float | None
    effect: float | None
    verdict: str


def cells(row: HandOff) -> list[str]:
    """A row of the table."""

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}"

    tokens = {None: "", True: "equal", False: "DIFFER"}[row.tokens_equal]
    numbers = [shown(row.max_difference), f"{row.top1_agreement:.0%}", shown(row.mean_kl), shown(row.effect)]
    return [row.name, tokens, *numbers, row.verdict]


def _types(run: OpenRun, asked: Sequence[str]) -> list[QuantType]:
    known = get_args(QuantType)
    unknown = sorted(set(asked) - {*known, "all"})
    if unknown:
        raise InputError(f"no GGUF type '{unknown[0]}'", where="--type", fix=f"one of {', '.join(known)}, or all")
    if "all" in asked:
        return list(known)
    return [kind for kind in known if kind in asked] or [run.recipe.export.type]


@dataclass(frozen=True)
class _Setting:
    """What is compared, on which prompts, and where GGUF files may be written."""

    folders: Mapping[str, Path]
    train: Path
    prompts: Sequence[Prompt]
    thinking: bool
    into: Path
    strength: float | None

    @property
    def tokens(self) -> list[tuple[int, ...]]:
        return [prompt.tokens for prompt in self.prompts]


def measure(run: OpenRun, types: Sequence[str]) -> tuple[list[HandOff], RagtuneError | None]:
    """A row for each hand-off, and the first failed check. Raises ArtifactError when it is not fused yet."""
    fused, base, thinking = run.artifact("fuse"), run.base, run.recipe.dataset.thinking == "on"
    corpus, dataset, train = (run.artifact(name).folder for name in ("corpus", "dataset", "train"))
    with open_retriever(run.recipe.retrieval, corpus) as retriever:
        messages = fixed_prompts(
            dataset, question_texts(run.recipe.benchmark), retriever=retriever, top_k=run.recipe.retrieval.top_k
        )
    prompts = rendered(messages, base, thinking=thinking)
    chosen, failed = _types(run, types), None
    with (
        tempfile.TemporaryDirectory(dir=run.home) as into,
        run.track("comparing in MLX and llama.cpp", len(chosen) + 1) as track,
    ):
        setting = _Setting(
            {"base": base, "tuned": fused.folder / "model"}, train, prompts, thinking, Path(into),
            run.recipe.fuse.strength,
        )  # fmt: skip
        logits = {model: next_token_logits(folder, setting.tokens) for model, folder in setting.folders.items()}
        rows = _of_adapter(setting, logits["tuned"], in_gguf=run.recipe.train.method == "lora")
        track.advance()
        for kind in chosen:
            handoffs, error = _at_type(kind, setting, logits)
            rows += handoffs
            failed = failed or error
            track.advance()
    return rows, failed


def _of_adapter(setting: _Setting, fused: Logits, *, in_gguf: bool) -> list[HandOff]:
    """Base plus adapter in MLX against the fused folder, and against the base's F32 GGUF with the adapter's on it."""
    base = setting.folders["base"]
    adapted = adapted_logits(base, setting.train, setting.tokens, strength=setting.strength)
    agreement = float((adapted.argmax(-1) == fused.argmax(-1)).mean())
    rows = [HandOff("adapter → fused", None, float(np.abs(adapted - fused).max()), agreement, None, None, "ok")]
    if in_gguf:
        gguf, lora = setting.into / "plain.gguf", setting.into / "adapter.gguf"
        write_gguf(base, gguf, type="F32", name="plain")
        write_adapter(setting.train, base, lora, strength=setting.strength)
        equal, listed = in_engine(gguf, setting.prompts, thinking=setting.thinking, adapter=lora)
        gguf.unlink()
        parity = compare_next_tokens("F32", adapted, listed, tokens_equal=equal)
        error = _failure(partial(check_parity, parity, what="the adapter's GGUF"))
        rows.append(_handoff("adapter → GGUF (F32)", parity, None, error))
    return rows


def _at_type(
    kind: QuantType, setting: _Setting, logits: Mapping[str, Logits]
) -> tuple[list[HandOff], RagtuneError | None]:
    """Base and tuned as GGUF of one type against their folders, and whether tuning outweighs quantizing."""
    parities: dict[str, Parity] = {}
    listed: dict[str, Listed] = {}
    errors: dict[str, RagtuneError | None] = {}
    for model, folder in setting.folders.items():
        gguf = setting.into / f"{model}.gguf"
        write_gguf(folder, gguf, type=kind, name=model)
        equal, listed[model] = in_engine(gguf, setting.prompts, thinking=setting.thinking)
        gguf.unlink()
        parities[model] = compare_next_tokens(kind, logits[model], listed[model], tokens_equal=equal)
        errors[model] = _failure(partial(check_parity, parities[model], what=f"{model}.gguf as {kind}"))
    effect = effect_size(listed["base"], listed["tuned"])
    noise = max(parity.mean_kl for parity in parities.values())
    errors["tuned"] = errors["tuned"] or _failure(partial(check_effect, effect, noise))
    rows = [
        _handoff(f"{model} → {kind}", parity, effect if model == "tuned" else None, errors[model])
        for model, parity in parities.items()
    ]
    return rows, errors["base"] or errors["tuned"]


def _handoff(name: str, parity: Parity, effect: float | None, error: RagtuneError | None) -> HandOff:
    return HandOff(
        name=name,
        tokens_equal=parity.tokens_equal,
        max_difference=parity.max_logprob_difference,
        top1_agreement=parity.top1_agreement,
        mean_kl=parity.mean_kl,
        effect=effect,
        verdict="failed" if error else "ok",
    )


def _failure(check: Callable[[], None]) -> RagtuneError | None:
    try:
        check()
    except RagtuneError as error:
        return error
    return None
