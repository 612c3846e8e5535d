"""The streamed folder has the bytes that MLX writes from a whole fused model, and memory for one tensor is enough."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_map, tree_unflatten
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.toy import Architecture, write_toy_model
from mlx_ragtune.tuning import fused_folder
from mlx_ragtune.tuning.adapters import load_adapter
from mlx_ragtune.tuning.fused_folder import write_fused
from mlx_ragtune.tuning.load import load_stored
from tests.tuning.made import all_files, load_arrays, made_adapter, toy_base


def stored_as(base: Path, dtype: mx.Dtype) -> Path:
    """The folder with all weights in another type."""
    arrays = {name: value.astype(dtype) for name, value in load_arrays(base / "model.safetensors").items()}
    mx.save_safetensors(str(base / "model.safetensors"), arrays, metadata={"format": "mlx"})
    return base


def fused_whole(base: Path, adapter: Path, target: Path, strength: float | None) -> None:
    """What mlx-lm does: the whole model in memory, in float32 here, every adapted layer fused, and saved."""
    model = load_stored(base)
    dtypes = {name: value.dtype for name, value in tree_flatten(model.parameters())}
    model.update(tree_map(lambda weight: weight.astype(mx.float32), model.parameters()))
    load_adapter(model, adapter, strength=strength)
    fused = [(name, module.fuse()) for name, module in model.named_modules() if hasattr(module, "fuse")]
    model.update_modules(tree_unflatten(fused))
    arrays = {name: value.astype(dtypes[name]) for name, value in sorted(tree_flatten(model.parameters()))}
    target.mkdir()
    mx.save_safetensors(str(target / "model.safetensors"), arrays, metadata={"format": "mlx"})


@pytest.mark.parametrize(
    ("architecture", "changes", "dtype"),
    [
        *((architecture, {}, mx.bfloat16) for architecture in get_args(Architecture)),
        ("qwen2", {"method": "dora"}, mx.bfloat16),
        ("qwen3", {"method": "dora", "layers": 1, "target_modules": ("q_proj",)}, mx.float32),
        ("llama", {}, mx.float16),
    ],
    ids=str,
)
def test_the_file_is_byte_for_byte_the_one_that_mlx_writes(
    tmp_path: Path, architecture: str, changes: dict[str, Any], dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_folder, "BLOCK_VALUES", 1000)  # many blocks, the last one shorter
    base = stored_as(toy_base(tmp_path / "base", architecture), dtype)
    adapter = made_adapter(base, tmp_path / "adapter", **changes)
    for strength in (None, 0.5):
        fused_whole(base, adapter, tmp_path / "whole", strength)
        write_fused(base, adapter, tmp_path / "fused", config=read_config(base), strength=strength)
        ours, theirs = (tmp_path / name / "model.safetensors" for name in ("fused", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()
        shutil.rmtree(tmp_path / "whole")


def test_a_base_in_shards_gives_the_same_file_as_one_in_a_single_file(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    write_fused(base, adapter, tmp_path / "single", config=read_config(base))
    arrays = sorted(load_arrays(base / "model.safetensors").items())
    halves = {"model-00001-of-00002.safetensors": arrays[:9], "model-00002-of-00002.safetensors": arrays[9:]}
    mx.eval([value for _, value in arrays])
    (base / "model.safetensors").unlink()
    for file, half in halves.items():
        mx.save_safetensors(str(base / file), dict(half))
    index = {"weight_map": {name: file for file, half in halves.items() for name, _ in half}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    write_fused(base, adapter, tmp_path / "sharded", config=read_config(base))
    single, sharded = (tmp_path / name / "model.safetensors" for name in ("single", "sharded"))
    assert single.read_bytes() == sharded.read_bytes()


def test_a_tied_head_that_the_base_stores_as_well_is_left_out_and_an_untied_one_is_kept(tmp_path: Path) -> None:
    for tied in (True, False):
        base = toy_base(tmp_path / f"base-{tied}", "llama")
        arrays = load_arrays(base / "model.safetensors")
        head = arrays["model.embed_tokens.weight"] * (1.0 if tied else 0.5)
        mx.save_safetensors(str(base / "model.safetensors"), {**arrays, "lm_head.weight": head})
        config = {**json.loads((base / "config.json").read_text()), "tie_word_embeddings": tied}
        (base / "config.json").write_text(json.dumps(config))
        adapter = made_adapter(base, tmp_path / f"adapter-{tied}")
        write_fused(base, adapter, tmp_path / f"fused-{tied}", config=config)
        fused = load_arrays(tmp_path / f"fused-{tied}" / "model.safetensors")
        assert ("lm_head.weight" in fused) is not tied
        if not tied:
            assert mx.array_equal(fused["lm_head.weight"], head).item()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_memory_is_that_of_the_largest_tensor_not_of_the_model(
    tmp_path: Path, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_folder, "BLOCK_VALUES", 2**14)
    base = tmp_path / "base"
    write_toy_model(base, architecture="llama", hidden=256, layers=12)
    stored_as(base, dtype)
    adapter = made_adapter(base, tmp_path / "adapter")
    sizes = [value.nbytes for value in load_arrays(base / "model.safetensors").values()]
    delta = sum(value.nbytes for value in load_arrays(adapter / "adapters.safetensors").values())
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    write_fused(base, adapter, tmp_path / "fused", config=read_config(base))
    peak = mx.get_peak_memory() - before
    assert max(sizes) <= peak < 1.2 * max(sizes) + delta + 5 * 4 * 2**14
    assert peak < 0.25 * sum(sizes)


def test_a_write_that_fails_half_way_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    real, done = fused_folder._write, []

    def failing(stream: Any, tensor: Any) -> None:
        done.append(tensor)
        if len(done) > 10:
            raise KeyboardInterrupt
        real(stream, tensor)

    monkeypatch.setattr(fused_folder, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        write_fused(base, adapter, tmp_path / "fused", config=read_config(base))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_process_that_is_killed_half_way_leaves_nothing_with_the_name_of_a_model(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    write_fused(base, adapter, tmp_path / "whole", config=read_config(base))
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mlx_ragtune.models.model_folder import read_config\n"
        "from mlx_ragtune.tuning import fused_folder\n"
        "base, adapter, target = map(Path, sys.argv[1:])\n"
        "real, done = fused_folder._write, []\n"
        "def killing(stream, tensor):\n"
        "    done.append(tensor)\n"
        "    if len(done) > 10:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(stream, tensor)\n"
        "fused_folder._write = killing\n"
        "fused_folder.write_fused(base, adapter, target, config=read_config(base))\n"
    )
    target = tmp_path / "fused"
    killed = subprocess.run([sys.executable, "-c", code, base, adapter, target], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert (tmp_path / ".fused.part").exists()
    write_fused(base, adapter, target, config=read_config(base))
    assert not (tmp_path / ".fused.part").exists()
    for file in all_files(tmp_path / "whole"):
        assert (target / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
