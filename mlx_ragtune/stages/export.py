"""export: base and tuned become GGUF by the same path and type, each checked in a real engine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from mlx_ragtune.artifact import Draft, require_disk
from mlx_ragtune.backends.serve_llamacpp import LlamaCppServer
from mlx_ragtune.gguf.architectures import check_architecture
from mlx_ragtune.gguf.parity import Parity, check_effect, check_parity, compare_next_tokens, effect_size
from mlx_ragtune.gguf.vocabulary import read_vocabulary
from mlx_ragtune.gguf.writer import estimate_bytes, write_gguf
from mlx_ragtune.pipeline import Inputs
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example, Message, read_rows
from mlx_ragtune.tuning.logits import next_token_logits
from mlx_ragtune.tuning.rows import load_tokenizer, prompt_tokens

PROBES = 8
TOP = 64
"""Next tokens that are compared for each probe."""


@dataclass(frozen=True)
class Probe:
    """A prompt as training rendered it."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


def check(recipe: Recipe, base: Path) -> None:
    """Raise InputError for an architecture or tokenizer that has no GGUF, ToolError for too small a disk."""
    check_architecture(json.loads((base / "config.json").read_text(encoding="utf-8")))
    read_vocabulary(base)
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    needed = weights + 2 * estimate_bytes(base, recipe.export.type)
    require_disk(Path.cwd(), needed, what="the fused model and two GGUF files")


def export(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``base.gguf``, ``tuned.gguf`` and ``parity.json``. Raises ArtifactError when a file is not its model."""
    kind, thinking = recipe.export.type, recipe.dataset.thinking == "on"
    probes = _probes(inputs["dataset"], inputs["base"], thinking=thinking)
    folders = {"base": inputs["base"], "tuned": inputs["fuse"] / "model"}
    reports, parities, listed = {}, {}, {}
    for model, folder in folders.items():
        with draft.track(f"writing {model}.gguf", 0) as track:
            report = write_gguf(
                folder, draft / f"{model}.gguf", type=kind, name=f"{recipe.name}-{model}", progress=track.reach
            )
        logits = next_token_logits(folder, [probe.tokens for probe in probes])
        tokens_equal, listed[model] = _served(draft / f"{model}.gguf", probes, thinking=thinking)
        parities[model] = compare_next_tokens(kind, logits, listed[model], tokens_equal=tokens_equal)
        check_parity(parities[model], what=f"{model}.gguf")
        reports[model] = report
    effect = effect_size(listed["base"], listed["tuned"])
    check_effect(effect, max(parity.mean_kl for parity in parities.values()))
    _record(draft, {name: asdict(report) for name, report in reports.items()}, parities, effect)


def _probes(dataset: Path, base: Path, *, thinking: bool) -> list[Probe]:
    tokenizer = load_tokenizer(base)
    rows = list(islice(read_rows(dataset / "examples-valid.jsonl", Example), PROBES))
    return [
        Probe(row.messages[:-1], tuple(prompt_tokens(row.messages[:-1], tokenizer, thinking=thinking))) for row in rows
    ]


def _served(gguf: Path, probes: Sequence[Probe], *, thinking: bool) -> tuple[bool, list[list[tuple[int, float]]]]:
    """Whether the engine renders and splits every prompt as training did, and its most probable next tokens."""
    context = max(len(probe.tokens) for probe in probes) + 16
    with LlamaCppServer(gguf, context_tokens=context) as server:
        equal = all(
            server.tokenize(server.render(probe.messages, think=thinking)) == list(probe.tokens) for probe in probes
        )
        return equal, [server.next_tokens(probe.tokens, TOP) for probe in probes]


def _record(draft: Draft, reports: dict[str, dict[str, object]], parities: dict[str, Parity], effect: float) -> None:
    parity = {name: asdict(one) for name, one in parities.items()}
    whole = {"files": reports, "parity": parity, "effect_nats": effect}
    (draft / "parity.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    draft.record(
        type=reports["tuned"]["type"],
        bytes=reports["tuned"]["bytes"],
        effect_nats=effect,
        **{f"{name}_mean_kl": one.mean_kl for name, one in parities.items()},
        **{f"{name}_top1_agreement": one.top1_agreement for name, one in parities.items()},
    )
