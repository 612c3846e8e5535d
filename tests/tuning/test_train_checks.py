"""Settings that do not fit the base or the engine are refused from config.json alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import SamplingSettings
from mlx_ragtune.tuning.groups import Group
from mlx_ragtune.tuning.run import keeps_checkpoints
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.train_checks import check_attention, check_engine, check_train, check_window
from tests.toy_models import copied
from tests.tuning.made import dataset_settings, train_settings


@pytest.mark.parametrize("changes", [{}, {"layers": 2}, {"layers": 1, "frozen_store": True}, {"engine": "mlx-lm"}])
def test_settings_that_fit_are_accepted_without_weights(toys: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "model.safetensors").unlink()
    check_train(train_settings(**changes), folder)


@pytest.mark.parametrize(
    ("architecture", "changes", "where", "said"),
    [
        ("qwen3", {"layers": 99}, "train.layers", "99 layers, but the model has only 2"),
        ("qwen3", {"layers": 3}, "train.layers", "3 layers, but the model has only 2"),
        ("qwen3", {"layers": 2, "frozen_store": True}, "train.frozen_store", "none can be stored"),
        ("gemma", {"layers": 1, "frozen_store": True}, "train.frozen_store", "Gemma"),
        ("llama", {"engine": "mlx-lm", "grad_checkpoint": True}, "train.grad_checkpoint", "does not support"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(
    toys: Path, tmp_path: Path, architecture: str, changes: dict[str, Any], where: str, said: str
) -> None:
    if architecture == "gemma":
        write_toy_model(tmp_path / "gemma", architecture="gemma3_text")
    folder = tmp_path / "gemma" if architecture == "gemma" else toys / architecture
    with pytest.raises(RecipeError, match=said) as caught:
        check_train(train_settings(**changes), folder)
    assert caught.value.where == where
    assert caught.value.fix


def test_a_projection_that_the_architecture_lacks_is_refused(toys: Path) -> None:
    settings = train_settings().model_copy(update={"target_modules": ("q_proj", "qkv_proj")})
    with pytest.raises(RecipeError, match="architecture 'qwen3' has no qkv_proj") as caught:
        check_train(settings, toys / "qwen3")
    assert "q_proj" in caught.value.fix


def test_the_frozen_store_needs_our_engine() -> None:
    settings = train_settings(layers=1, frozen_store=True).model_copy(update={"engine": "mlx-lm"})
    with pytest.raises(RecipeError, match="frozen store"):
        check_engine(settings)


@pytest.mark.parametrize(
    ("max_tokens", "sampling", "where"),
    [
        (513, {}, "dataset.max_tokens"),
        (512, {"context_tokens": 1024, "max_tokens": 64}, "evaluate.sampling.context_tokens"),
        (512, {"context_tokens": 512, "max_tokens": 512}, "evaluate.sampling.max_tokens"),
        (512, {"context_tokens": 10**12, "max_tokens": 64}, "evaluate.sampling.context_tokens"),
    ],
)
def test_rows_and_prompts_beyond_the_window_are_refused(
    toys: Path, tmp_path: Path, max_tokens: int, sampling: dict[str, int], where: str
) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m", max_position_embeddings=512)
    fitting = {"context_tokens": 512, "max_tokens": 64}
    check_window(folder, dataset=dataset_settings(max_tokens=512), sampling=SamplingSettings(**fitting))
    with pytest.raises(RecipeError) as caught:
        check_window(
            folder,
            dataset=dataset_settings(max_tokens=max_tokens),
            sampling=SamplingSettings().model_copy(update={**fitting, **sampling}),
        )
    assert caught.value.where == where
    assert "at most 51" in caught.value.fix


def test_only_our_engine_keeps_checkpoints() -> None:
    assert keeps_checkpoints("shared-prefix")
    assert not keeps_checkpoints("mlx-lm")


def test_attention_beyond_the_index_range_of_a_cpu_is_refused() -> None:
    """Attention scores of 2^31 values and more end the process with SIGSEGV on a CPU."""
    tokens = np.zeros(30_000, np.int32)
    row = TokenRow("a", "g", "grounded", tokens, 29_000)
    check_attention([Group((row,), 0)], 1)
    with pytest.raises(RecipeError, match="30000 tokens are too long") as caught:
        check_attention([Group((row,), 0)], 4)
    assert caught.value.where == "dataset.max_tokens"
