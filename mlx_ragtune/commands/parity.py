"""``ragtune parity``: every hand-off of a finished run measured again, at one or every GGUF type."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError
from mlx_ragtune.gguf.adapter import write_adapter
from mlx_ragtune.gguf.parity import (
    Listed,
    Parity,
    Prompt,
    check_effect,
    check_parity,
    compare_next_tokens,
    compare_with_model,
    effect_size,
    in_engine,
    rendered,
)
from mlx_ragtune.gguf.quantise import QuantType
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.pipeline import Run, stage_named
from mlx_ragtune.retrieval.fixed import fixed_prompts
from mlx_ragtune.tuning.fuse import adapted_logits
from mlx_ragtune.tuning.logits import next_token_logits

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


def _types(run: Run, asked: Sequence[str]) -> list[QuantType]:
    known = get_args(QuantType)
    unknown = sorted(set(asked) - {*known, "all"})
    if unknown:
        raise InputError(f"no GGUF type '{unknown[0]}'", where="--type", fix=f"one of {', '.join(known)}, or all")
    if "all" in asked:
        return list(known)
    return [one for one in known if one in asked] or [run.recipe.export.type]


def measure(run: Run, types: Sequence[str]) -> tuple[list[HandOff], RagtuneError | None]:
    """A row for each hand-off, and the first failed check. Raises ArtifactError when nothing is fused yet."""
    fused = run.finished(stage_named("fuse"))
    if fused is None:
        raise ArtifactError("nothing is fused yet", fix=f"ragtune fuse recipes/{run.recipe.name}.yaml")
    base, thinking = run.base, run.recipe.dataset.thinking == "on"
    assert base is not None  # noqa: S101 (a run opened with its base)
    corpus, dataset = (run.home / stage_named(name).folder for name in ("corpus", "dataset"))
    messages = fixed_prompts(dataset, corpus, run.recipe.benchmark, top_k=run.recipe.retrieval.top_k)
    prompts = rendered(messages, base, thinking=thinking)
    train = run.home / stage_named("train").folder
    rows = [_within_mlx(base, train, fused.folder / "model", prompts)]
    failed: RagtuneError | None = None
    with tempfile.TemporaryDirectory(dir=run.home) as folder:
        if run.recipe.train.method == "lora":
            rows.append(_adapter_in_engine(base, train, Path(folder), prompts, thinking=thinking))
        chosen = _types(run, types)
        with run.track("writing and asking GGUF files", len(chosen)) as track:
            for kind in chosen:
                found, error = _at_type(
                    kind, {"base": base, "tuned": fused.folder / "model"}, Path(folder), prompts, thinking
                )
                rows += found
                failed = failed or error
                track.advance()
    return rows, failed


def _at_type(
    kind: QuantType, folders: dict[str, Path], into: Path, prompts: Sequence[Prompt], thinking: bool
) -> tuple[list[HandOff], RagtuneError | None]:
    """Base and tuned as GGUF of one type against their folders, and whether tuning outweighs quantising."""
    parities: dict[str, Parity] = {}
    listed: dict[str, Listed] = {}
    errors: dict[str, RagtuneError | None] = {}
    for model, folder in folders.items():
        gguf = into / f"{model}.gguf"
        write_gguf(folder, gguf, type=kind, name=model)
        parities[model], listed[model] = compare_with_model(kind, folder, gguf, prompts, thinking=thinking)
        gguf.unlink()
        errors[model] = _failure(partial(check_parity, parities[model], what=f"{model}.gguf as {kind}"))
    effect = effect_size(listed["base"], listed["tuned"])
    noise = max(one.mean_kl for one in parities.values())
    errors["tuned"] = errors["tuned"] or _failure(partial(check_effect, effect, noise))
    rows = [
        _handoff(f"{model} → {kind}", one, effect if model == "tuned" else None, errors[model])
        for model, one in parities.items()
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


def _within_mlx(base: Path, train: Path, fused: Path, prompts: Sequence[Prompt]) -> HandOff:
    """Base plus adapter against the fused folder, both in MLX."""
    tokens = [one.tokens for one in prompts]
    adapted = adapted_logits(base, train, tokens)
    after = next_token_logits(fused, tokens)
    agreement = float((adapted.argmax(-1) == after.argmax(-1)).mean())
    return HandOff("adapter → fused", None, float(np.abs(adapted - after).max()), agreement, None, None, "ok")


def _adapter_in_engine(base: Path, train: Path, folder: Path, prompts: Sequence[Prompt], *, thinking: bool) -> HandOff:
    """Base plus adapter in MLX against the base's F32 GGUF with the adapter's GGUF on it."""
    write_gguf(base, folder / "plain.gguf", type="F32", name="plain")
    write_adapter(train, base, folder / "adapter.gguf")
    equal, listed = in_engine(folder / "plain.gguf", prompts, thinking=thinking, adapter=folder / "adapter.gguf")
    logits = adapted_logits(base, train, [one.tokens for one in prompts])
    parity = compare_next_tokens("F32", logits, listed, tokens_equal=equal)
    return _handoff("adapter → GGUF (F32)", parity, None, _failure(partial(check_parity, parity, what="the adapter")))
