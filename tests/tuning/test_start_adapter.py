"""Training starts from an adapter as exactly its function; one that does not fit is refused with every difference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients import file_digests
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ArtifactError, InputError, RecipeError
from mlx_ragtune.models.adapter_files import PEFT_FILES, peft_arrays, peft_config, read_adapter
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.models.weights import write_safetensors
from mlx_ragtune.tuning.adapters import apply_adapter, load_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.run import train
from mlx_ragtune.tuning.start_adapter import check_start, start_from
from tests.tuning.made import (
    base_settings,
    dataset_settings,
    examples,
    load_arrays,
    made_adapter,
    toy_base,
    train_settings,
)

TOKENS = [[1, 5, 9, 33, 12, 7, 60, 2, 3]]
ROWS = {"train": examples(4, 2), "valid": examples(6, 1)[4:]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


def as_peft(folder: Path, target: Path) -> Path:
    """An adapter of ours in PEFT's format."""
    adapter, arrays = read_adapter(folder), list(peft_arrays(read_adapter(folder)))
    target.mkdir()
    shapes = [(name, values.shape) for name, values in arrays]
    write_safetensors(target / PEFT_FILES[0], shapes, "F32", (values for _, values in arrays), made_by="pt")
    (target / PEFT_FILES[1]).write_text(json.dumps(peft_config(adapter, base=None, layers=2, dropout=0.0)))
    return target


@pytest.mark.parametrize("kind", ["mlx", "peft"])
@pytest.mark.parametrize(
    "shape", [{}, {"method": "dora"}, {"layers": 1, "target_modules": ("q_proj", "v_proj")}], ids=str
)
def test_the_model_starts_as_the_adapters_function_at_any_scale(
    base: Path, tmp_path: Path, shape: dict[str, Any], kind: str
) -> None:
    folder = made_adapter(base, tmp_path / "ours", **shape)
    expected = load_base(base, "fp32").model
    load_adapter(expected, folder)
    wanted = np.array(expected(mx.array(TOKENS)))
    if kind == "peft":
        folder = as_peft(folder, tmp_path / "peft")
    for alpha in (8.0, 3.1):
        settings = train_settings(from_adapter=folder, alpha=alpha, **shape)
        check_start(settings, base, model="toy:qwen3")
        model = load_base(base, "fp32").model
        before = np.array(model(mx.array(TOKENS)))
        apply_adapter(model, settings, seed=7)
        start_from(model, settings)
        found = np.array(model(mx.array(TOKENS)))
        assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
        assert np.abs(found - before).max() > 0.05 * np.abs(wanted).max()


def test_every_difference_is_named_with_the_keys_to_set(base: Path, tmp_path: Path) -> None:
    shape: dict[str, Any] = {"method": "dora", "layers": 1, "target_modules": ("q_proj", "v_proj"), "rank": 2}
    folder = made_adapter(base, tmp_path / "a", **shape)
    with pytest.raises(RecipeError) as caught:
        check_start(train_settings(from_adapter=folder), base, model="toy:qwen3")
    assert caught.value.where == "train.from_adapter"
    assert caught.value.fix == (
        "set train.method: dora, train.rank: 2, train.target_modules: [q_proj, v_proj], train.layers: 1"
    )
    for line in ("train.rank: 2 in the adapter, 4 in the recipe", "train.layers: 1 in the adapter, all in the recipe"):
        assert line in caught.value.what
    check_start(train_settings(from_adapter=folder, **shape), base, model="toy:qwen3")
    check_start(train_settings(), base, model="toy:qwen3")


def test_all_layers_and_their_number_are_the_same(base: Path, tmp_path: Path) -> None:
    folder = made_adapter(base, tmp_path / "a")
    check_start(train_settings(from_adapter=folder, layers=2), base, model="toy:qwen3")
    with pytest.raises(RecipeError) as caught:
        check_start(train_settings(from_adapter=folder, layers=1), base, model="toy:qwen3")
    assert caught.value.fix == "set train.layers: all"


def test_an_adapter_of_another_base_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    folder = made_adapter(base, tmp_path / "a")
    settings = train_settings(from_adapter=folder)
    manifest = {"described": {"inputs": {"base": file_digests.base_digest(base)}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    check_start(settings, base, model="toy:qwen3")
    manifest["described"]["inputs"]["base"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="trained on another base"):
        check_start(settings, base, model="toy:qwen3")
    (folder / "manifest.json").unlink()
    write_toy_model(tmp_path / "wider", architecture="qwen3", hidden=128)
    with pytest.raises(InputError, match="does not fit the base"):
        check_start(settings, tmp_path / "wider", model="toy:qwen3")


@pytest.mark.parametrize(
    ("there", "here", "accepted"),
    [
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B", True),
        ("unsloth/Qwen3-4B", "Qwen/Qwen3-4B", True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-4B", False),
        ("/home/me/model", "Qwen/Qwen3-4B", True),
        ("Qwen/Qwen3-8B", "./models/mine", True),
        (None, "Qwen/Qwen3-4B", True),
    ],
)
def test_names_of_bases_count_where_both_are_of_the_hub(
    base: Path, tmp_path: Path, there: str | None, here: str, accepted: bool
) -> None:
    folder = as_peft(made_adapter(base, tmp_path / "ours"), tmp_path / "peft")
    config = json.loads((folder / PEFT_FILES[1]).read_text())
    (folder / PEFT_FILES[1]).write_text(json.dumps(config | {"base_model_name_or_path": there}))
    settings = train_settings(from_adapter=folder)
    if accepted:
        check_start(settings, base, model=here)
    else:
        with pytest.raises(InputError, match="trained on 'Qwen/Qwen3-8B', the recipe has 'Qwen/Qwen3-4B'"):
            check_start(settings, base, model=here)


def test_lower_layers_alone_are_refused(base: Path, tmp_path: Path) -> None:
    folder = as_peft(made_adapter(base, tmp_path / "ours", layers=1), tmp_path / "peft")
    arrays = load_arrays(folder / PEFT_FILES[0])
    moved = {name.replace("layers.1.", "layers.0."): value for name, value in arrays.items()}
    mx.save_safetensors(str(folder / PEFT_FILES[0]), moved)
    with pytest.raises(InputError, match="on layers 0 of 2, not on the last ones"):
        check_start(train_settings(from_adapter=folder, layers=1), base, model="toy:qwen3")


def run(base: Path, folder: Path, **changes: Any) -> list[dict[str, float]]:
    settings = train_settings(**{"epochs": 1.0, "batch_size": 4, "accumulation": 1, "learning_rate": 1e-3} | changes)
    options: dict[str, Any] = {"rows": ROWS, "seed": 3, "progress": lambda *_: None, "save_seconds": 0.0}
    train(settings, base_settings(), dataset_settings(), base=base, folder=folder, **options)
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("engine", ["shared-prefix", "mlx-lm"])
def test_training_continues_where_the_adapter_was(base: Path, tmp_path: Path, engine: str) -> None:
    first = run(base, tmp_path / "first", epochs=6.0, learning_rate=1e-2, engine=engine)
    second = run(base, tmp_path / "second", from_adapter=tmp_path / "first", alpha=16.0, engine=engine)
    assert first[-1]["train_loss"] < 0.8 * first[0]["train_loss"]
    assert second[0]["train_loss"] < first[0]["train_loss"] - 0.5 * (first[0]["train_loss"] - first[-1]["train_loss"])


def test_a_stopped_run_does_not_resume_from_another_adapter(base: Path, tmp_path: Path) -> None:
    one, other = (made_adapter(base, tmp_path / name, size=size) for name, size in (("one", 0.1), ("two", 0.2)))
    run(base, tmp_path / "run", from_adapter=one)
    with pytest.raises(ArtifactError, match="from_adapter"):
        run(base, tmp_path / "run", from_adapter=other)
    moved = one.rename(tmp_path / "moved")
    run(base, tmp_path / "run", from_adapter=moved)


def test_gemma4_is_refused_with_the_reason(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base", "gemma4_text")
    adapter = made_adapter(base, tmp_path / "adapter")
    with pytest.raises(RecipeError, match="do not all have the same projections") as caught:
        check_start(train_settings(from_adapter=str(adapter)), base, model="toy:gemma4_text")
    assert caught.value.where == "train.from_adapter"
