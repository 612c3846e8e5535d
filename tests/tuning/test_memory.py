"""What the memory module decides, and what it advises."""

import sys

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.tuning.memory import awake, caps_here, decide, next_setting, shortage
from tests.tuning.made import train_settings

GIB = 2**30


def test_a_mac_wires_less_than_the_recommended_set() -> None:
    caps = decide(platform="darwin", available=48 * GIB, recommended=36 * GIB)
    assert caps.wired == caps.usable < 36 * GIB
    assert caps.wired > 0.8 * 36 * GIB
    assert caps.cache < caps.usable / 5


def test_linux_wires_nothing_and_leaves_a_tenth() -> None:
    caps = decide(platform="linux", available=10 * GIB, recommended=0)
    assert (caps.wired, caps.usable) == (0, 9 * GIB)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_has_some_memory() -> None:
    caps = caps_here()
    assert GIB / 8 < caps.usable < 2**45
    assert caps.wired == 0


def test_advice_goes_from_the_cheapest_setting_to_the_dearest() -> None:
    settings = train_settings(tokens_per_step=4096)
    told = []
    for changes in ({}, {"tokens_per_step": 1024}, {"tokens_per_step": 1024, "grad_checkpoint": True}):
        told.append(next_setting(settings.model_copy(update=changes)))
    assert "tokens_per_step (now 4096) to 2048" in told[0]
    assert told[1] == "set train.grad_checkpoint: true"
    assert "4bit" in told[2]


def test_advice_for_the_reference_engine_names_its_own_settings() -> None:
    assert "batch_size (now 2)" in next_setting(train_settings(engine="mlx-lm"))


@pytest.mark.parametrize(
    "text",
    [
        "[malloc] Unable to allocate 99 bytes.",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008)",
        "[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed buffer size",
    ],
)
def test_mlx_out_of_memory_is_told_apart(text: str) -> None:
    error = shortage(RuntimeError(text), train_settings())
    assert isinstance(error, ToolError)
    assert "tokens_per_step" in error.fix


def test_other_runtime_errors_stay_what_they_are() -> None:
    bug = RuntimeError("[matmul] shapes do not match")
    assert shortage(bug, train_settings()) is bug


def test_staying_awake_is_a_matter_of_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with awake():
        pass
