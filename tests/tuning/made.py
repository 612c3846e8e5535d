"""Toy models with adapters that look trained, and rows in groups, for the tests of this package."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten, tree_map
from mlx_ragtune.models.toy import Architecture, particulars, write_toy_model
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example, Message, RowKind
from mlx_ragtune.tuning.adapters import apply_adapter, save_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.token_rows import TokenRow


def load_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file."""
    loaded = mx.load(str(path))
    assert isinstance(loaded, dict)
    return loaded


VOCABULARY = 97
CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
GEMMA = {"sliding_window": 24, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16, "tie_word_embeddings": False}

GEMMA4 = {"sliding_window": 24, "vocab_size_per_layer_input": VOCABULARY}
KEYS_AS_VALUES: dict[str, Any] = {
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
    "use_double_wide_mlp": False,
}
"""What Gemma 4 31B has in place of shared keys and values and of embeddings for each layer."""
VARIANTS = {"gemma4 with keys as values": ("gemma4_text", KEYS_AS_VALUES)}


def made_model(architecture: str, *, bits: int | None = None, seed: int = 0, **changes: Any) -> Any:
    """A random model of an mlx-lm architecture: ``llama``, ``qwen2``, ``qwen3``, the other toys, and VARIANTS."""
    architecture, variant = VARIANTS.get(architecture, (architecture, {}))
    changes = variant | changes
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    layers = changes.get("num_hidden_layers", CONFIG["num_hidden_layers"])
    own = particulars(cast(Architecture, architecture), CONFIG["hidden_size"], layers)
    own |= {"gemma3_text": GEMMA, "gemma4_text": GEMMA4}.get(architecture, {})
    config = CONFIG | own | changes | {"model_type": architecture}
    mx.random.seed(seed)
    model = module.Model(module.ModelArgs.from_dict(config))
    model.update(tree_map(lambda one: one + 0.05 * mx.random.normal(one.shape), model.parameters()))
    if bits is not None:
        nn.quantize(model, group_size=64, bits=bits, class_predicate=_is_quantizable)
    model.freeze()
    mx.eval(model.parameters())
    return model


def _is_quantizable(_path: str, module: Any) -> bool:
    return isinstance(module, nn.Linear) and module.weight.shape[-1] % 64 == 0


def train_settings(**changes: Any) -> TrainSettings:
    """Small and quick, unless told otherwise."""
    settings = {"rank": 4, "alpha": 8.0, "learning_rate": 1e-2, "epochs": 2.0, "tokens_per_step": 4096}
    return TrainSettings(**(settings | changes))


def adapted(model: Any, settings: TrainSettings, *, seed: int = 1) -> Any:
    """The model with adapters whose B is not zero, so that every gradient is alive."""
    apply_adapter(model, settings, seed=seed)
    alive = [
        (name, 0.1 * mx.random.normal(value.shape))
        for name, value in tree_flatten(model.trainable_parameters())
        if name.endswith("lora_b")
    ]
    model.load_weights(alive, strict=False)
    model.train()
    return model


def made_rows(
    draw: np.random.Generator,
    branches: list[int],
    *,
    prefix: tuple[int, int] = (3, 60),
    tail: tuple[int, int] = (2, 30),
) -> list[TokenRow]:
    """Token rows: for each number in ``branches`` a context and so many questions and answers on it."""
    rows = []
    for number, count in enumerate(branches):
        context = draw.integers(0, VOCABULARY, draw.integers(*prefix))
        for index in range(count):
            question, answer = (draw.integers(0, VOCABULARY, draw.integers(*tail)) for _ in range(2))
            tokens = np.concatenate([context, question, answer]).astype(np.int32)
            rows.append(TokenRow(f"{number}-{index}", f"g{number}", "grounded", tokens, len(context) + len(question)))
    return rows


def example(group: int, index: int, *, kind: RowKind = "grounded", words: int = 12) -> Example:
    """A chat row of a context shared by its group."""
    context = " ".join(f"paper {group} says {group * 7 + n}" for n in range(words))
    return Example(
        id=f"{group}-{index}",
        kind=kind,
        group=f"g{group}",
        messages=(
            Message("system", "Answer from the papers."),
            Message("user", f"{context}\nWhat of {index}?"),
            Message("assistant", f'The paper "Title {group}" says {group * 7 + index}.'),
        ),
    )


def examples(groups: int, each: int) -> list[Example]:
    """``groups`` contexts with ``each`` questions."""
    return [example(group, index) for group in range(groups) for index in range(each)]


def with_worse(rows: list[Example]) -> list[Example]:
    """The rows, of which two in three have a rejected answer."""
    return [
        row if index % 3 == 2 else replace(row, rejected=f"The papers do not say what of {index}, so I cannot tell.")
        for index, row in enumerate(rows)
    ]


def own_answer(number: int) -> Example:
    """A rehearsal row, unlike every other."""
    turns = (Message("user", f"What is {number} plus {number}?"), Message("assistant", f"It is {2 * number}, friend."))
    return Example(f"rehearsal-{number}", "rehearsal", f"rehearsal-{number}", turns)


def own_answers(count: int) -> list[Example]:
    """Rehearsal rows."""
    return [own_answer(number) for number in range(count)]


def toy_base(folder: Path, architecture: Any = "qwen3") -> Path:
    """A toy model folder."""
    write_toy_model(folder, architecture=architecture)
    return folder


def base_settings(**changes: Any) -> BaseModelSettings:
    """The toy in float32."""
    return BaseModelSettings(**({"model": "toy:qwen3", "precision": "fp32"} | changes))


def dataset_settings(**changes: Any) -> DatasetSettings:
    """Some file of pairs."""
    return DatasetSettings(**({"pairs": Path("pairs.jsonl")} | changes))


def flat(gradient: Any) -> np.ndarray[Any, Any]:
    """A tree of arrays as one float64 vector, in the order of the names."""
    return np.concatenate([np.array(value, dtype=np.float64).ravel() for _, value in sorted(tree_flatten(gradient))])


def relative(left: Any, right: Any) -> float:
    """‖left − right‖ / ‖right‖."""
    return float(np.linalg.norm(flat(left) - flat(right)) / np.linalg.norm(flat(right)))


def all_files(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, sorted."""
    yield from sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def made_adapter(base: Path, folder: Path, *, precision: Any = "fp32", size: float = 0.1, **changes: Any) -> Path:
    """An adapter folder that changes the base: B is not 0 as it is before training."""
    settings = train_settings(**changes)
    model = load_base(base, precision).model
    apply_adapter(model, settings, seed=1)
    mx.random.seed(5)
    arrays = {
        name: value if name.endswith(("lora_a", ".m")) else size * mx.random.normal(value.shape)
        for name, value in tree_flatten(model.trainable_parameters())
    }
    folder.mkdir()
    save_adapter(folder, arrays, settings, len(model.layers))
    return folder


def counted_peak(function: Callable[[], Any]) -> int:
    """Bytes that evaluating the function's arrays adds to what is in memory at most: the least of three runs.

    MLX's CPU backend makes buffers up to ten operations ahead of the thread that computes and frees them, so that the
    peak depends on the load of the machine. Over its memory limit it waits before each operation, but only until the
    one before has said that it is done, which is before its buffers are free: one or two more may still be counted.
    """
    limit = mx.set_memory_limit(1)
    try:
        return min(_peak(function) for _ in range(3))
    finally:
        mx.set_memory_limit(limit)


def _peak(function: Callable[[], Any]) -> int:
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(function())
    mx.synchronize()
    return int(mx.get_peak_memory()) - int(before)
