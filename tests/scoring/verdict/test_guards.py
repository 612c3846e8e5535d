import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.guards import forgetting_guard


def _passed(lost: int, gained: int, kept: int) -> tuple[dict[str, bool], dict[str, bool]]:
    before = [True] * lost + [False] * gained + [True] * kept
    after = [False] * lost + [True] * gained + [True] * kept
    names = [f"probe-{number}" for number in range(len(before))]
    return dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True))


@pytest.mark.parametrize(
    ("lost", "gained", "kept", "state"),
    [
        (0, 0, 60, "PASS"),
        (3, 0, 57, "PASS"),
        (4, 0, 56, "WARN"),
        (6, 0, 54, "FAIL"),
        (0, 9, 51, "PASS"),
        (6, 6, 48, "PASS"),
    ],
)
def test_forgetting_fails_when_significantly_worse_and_warns_beyond_the_margin(
    lost: int, gained: int, kept: int, state: str
) -> None:
    guard = forgetting_guard(*_passed(lost, gained, kept), margin=0.05, alpha=0.05)
    assert guard.state == state
    assert guard.detail == f"60 probes: {lost} lost, {gained} gained"


def test_different_probes_are_refused() -> None:
    with pytest.raises(InputError, match="the probes differ: 1 for base, 0 for tuned"):
        forgetting_guard({"a": True}, {}, margin=0.05, alpha=0.05)
    with pytest.raises(InputError):
        forgetting_guard({}, {}, margin=0.05, alpha=0.05)
