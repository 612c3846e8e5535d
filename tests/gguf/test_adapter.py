"""A LoRA adapter as GGUF: llama.cpp with base and adapter says what MLX says with both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.adapter import write_adapter
from mlx_ragtune.gguf.engine_parity import check_parity, compare_next_tokens, effect_size
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.tuning.merge import adapted_logits
from tests.gguf.test_engine import QUESTIONS, turn
from tests.tuning.made import made_adapter, toy_base


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "changes", [{}, {"layers": 1}, {"rank": 3, "alpha": 7, "rank_stabilized": True, "target_modules": ("k_proj",)}],
    ids=str,
)  # fmt: skip
def test_base_and_adapter_in_the_engine_are_those_of_mlx(
    tmp_path: Path, architecture: str, changes: dict[str, Any]
) -> None:
    base = toy_base(tmp_path / "base", architecture)
    adapter = made_adapter(base, tmp_path / "adapter", **changes)
    write_gguf(base, tmp_path / "base.gguf", type="F32", name="base")
    count = write_adapter(adapter, base, tmp_path / "adapter.gguf")
    tokenizer = load_tokenizer(base)
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS[:4]]
    logits = adapted_logits(base, adapter, prompts)
    listed = {}
    for name, lora in (("base", None), ("tuned", tmp_path / "adapter.gguf")):
        with LlamaCppServer(tmp_path / "base.gguf", context_tokens=1024, adapter=lora) as server:
            listed[name] = [server.next_tokens(prompt, 32) for prompt in prompts]
    check_parity(compare_next_tokens("F32", logits, listed["tuned"], tokens_equal=True), what="adapter")
    assert effect_size(listed["base"], listed["tuned"]) > 1e-3
    assert len(GGUFReader(tmp_path / "adapter.gguf").tensors) == count


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    write_adapter(made_adapter(base, tmp_path / "adapter", rank=4, alpha=8), base, tmp_path / "adapter.gguf")
    reader = GGUFReader(tmp_path / "adapter.gguf")
    said = {name: reader.fields[name].contents() for name in ("general.type", "adapter.type", "adapter.lora.alpha")}
    assert said == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0}
    shapes = {one.name: tuple(int(size) for size in one.shape) for one in reader.tensors}
    assert shapes["blk.0.attn_q.weight.lora_a"] == (64, 4)  # as ggml counts: columns first
    assert np.prod(shapes["blk.1.ffn_up.weight.lora_b"]) == 4 * 128
    assert not list(tmp_path.glob(".*.part"))


def test_a_strength_is_in_the_alpha_of_the_file(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", rank=4, alpha=8)
    write_adapter(adapter, base, tmp_path / "half.gguf", strength=0.5)
    assert GGUFReader(tmp_path / "half.gguf").fields["adapter.lora.alpha"].contents() == 4.0


def test_dora_is_refused_with_the_way_out(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", method="dora")
    with pytest.raises(InputError, match="only LoRA adapters can be stored in GGUF, this one is 'dora'") as error:
        write_adapter(adapter, base, tmp_path / "adapter.gguf")
    assert "without --preview" in (error.value.fix or "")
