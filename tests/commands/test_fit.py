"""``ragtune models --fit``: the sizes are those of the model cards, and what is listed fits by the plan's own count."""

import json
import re
from itertools import pairwise
from math import prod

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.clients.machine import PROCESS_BYTES
from mlx_ragtune.commands.fit import ROW_TOKENS, fits, limit_of, settings
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.known_bases import KNOWN_BASES
from mlx_ragtune.tuning.resources import sized_config, train_memory

GIB = 2**30


@pytest.mark.parametrize("base", KNOWN_BASES, ids=lambda base: base.name)
def test_the_parameters_of_a_known_base_are_those_of_its_model_card(base: object) -> None:
    config = dict(base.config)  # type: ignore[attr-defined]
    counted = sized_config(config).parameters
    if config["model_type"] == "qwen2":  # biases of q, k and v
        width = (config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * config["head_dim"]
        counted += config["num_hidden_layers"] * width
    assert counted == base.parameters  # type: ignore[attr-defined]


SERVED = {"E2B": 4_647_450_147, "E4B": 7_518_069_290, "31B": 30_697_345_596}
"""Parameters that llama.cpp reports of public GGUF files of Gemma 4."""


@pytest.mark.parametrize("size", SERVED)
def test_the_parameters_of_gemma4_are_those_of_public_files(size: str) -> None:
    """These have, besides, the unread keys and values of layers that share those of others, and rotary divisors."""
    (base,) = [base for base in KNOWN_BASES if base.name == f"google/gemma-4-{size}-it"]
    config = base.config
    without = {**config, "num_kv_shared_layers": 0}
    unread = sum(
        prod(shape)
        for layer in range(gemma4.own_layers(config), config["num_hidden_layers"])
        for name, shape in gemma4.layer_shapes(without, layer).items()
        if name.startswith(("self_attn.k", "self_attn.v"))
    )
    assert base.parameters + unread + len(gemma4.rotary_divisors(config)) == SERVED[size]


def test_the_limits_are_a_share_of_what_metal_recommends() -> None:
    assert limit_of(16) == pytest.approx(0.85 * 2 / 3 * 16 * GIB, abs=2)
    assert limit_of(64) == pytest.approx(0.85 * 3 / 4 * 64 * GIB, abs=2)


def test_what_is_listed_fits_by_the_count_of_the_plan_and_more_memory_never_fits_less() -> None:
    sizes = (8, 16, 32, 64, 128)
    found = {size: fits(size) for size in sizes}
    for size, rows in found.items():
        for row, base in zip(rows, KNOWN_BASES, strict=True):
            if not row.fits:
                continue
            assert row.train is not None
            chosen = settings().model_copy(
                update={"grad_checkpoint": row.train.grad_checkpoint, "tokens_per_step": row.train.tokens_per_step}
            )
            counted = train_memory(
                sized_config(base.config), chosen, row.train.precision, row_tokens=ROW_TOKENS, platform="darwin"
            )
            assert row.train.bytes == counted + PROCESS_BYTES
            assert max(row.train.bytes, row.fuse, row.export, row.serve) <= limit_of(size)
    for less, more in pairwise(sizes):
        assert {row.base for row in found[less] if row.fits} <= {row.base for row in found[more] if row.fits}
    assert all(row.fits for row in found[128])


def test_a_mac_with_sixteen_gigabytes_tunes_four_billion_parameters_and_not_thirty_two() -> None:
    rows = {row.base: row for row in fits(16)}
    assert rows["Qwen/Qwen3-4B"].fits
    assert rows["Qwen/Qwen3-32B"].short == ("train", "fuse", "export", "serve")
    assert rows["Qwen/Qwen3-32B"].train is None


def test_one_size_lists_every_stage_and_what_is_too_large() -> None:
    result = CliRunner().invoke(main, ["models", "--fit", "16"])
    assert result.exit_code == 0, result.output
    assert "a Mac with 16 GB: 9.1 GiB can be used" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("Qwen3-4B ")]
    assert row[:2] == ["Qwen3-4B", "4.0"]
    assert row[-1] in ("Q8_0", "Q4_K_M")
    assert "too large:" in result.stdout
    assert "Qwen3-32B (train, fuse, export, serve)" in " ".join(result.stdout.split())


def test_several_sizes_stand_side_by_side_and_as_json() -> None:
    text = CliRunner().invoke(main, ["models", "--fit", "16", "--fit", "64"]).stdout
    (row,) = [line for line in text.splitlines() if line.startswith("Qwen3-14B")]
    assert re.fullmatch(r"Qwen3-14B +– +bf16\*, Q8_0", row.strip())
    found = json.loads(CliRunner().invoke(main, ["models", "--fit", "16", "--fit", "64", "--json"]).stdout)
    assert [size["memory_gb"] for size in found] == [16, 64]
    for size in found:
        assert len(size["bases"]) == len(KNOWN_BASES)
        for base in size["bases"]:
            assert base["fits"] == (not base["short"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fit", "2"], "4<=x<=4096"),
        (["--fit", "nan"], "4<=x<=4096"),
        (["--fit", "16", "list"], "--fit does not go with 'list'"),
        (["--json", "list"], "--json does not go with 'list'"),
    ],
)
def test_impossible_sizes_and_mixed_commands_are_refused(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["models", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
