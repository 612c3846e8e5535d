"""How often is the verdict wrong? Simulated runs with a known truth through ``scoring.verdict``.

    python benchmarks/verdict.py                  # the table, about three minutes on two cores
    python benchmarks/verdict.py --json           # for scripts
    python benchmarks/verdict.py --runs 200       # faster, less precise

A run has 120 papers × 2 answerable questions × 3 seeds, and 30 unanswerable questions, answered by two
models. The correctness of an answer (0, ½ or 1: many ties) comes from a latent normal variable. Its
components are the difficulty of the paper and of the question, shared by both models; the fit of each
model to the paper and to the question; and the seed. The differences within a paper are therefore
correlated under the null hypothesis too. Citing, style and refusing are yes/no, with the same
structure. 4% of the answers are invalid and get the worst value in every metric except the guard on
refusals. The variances are chosen so that the differences of question means have a standard deviation
of about .22 and, within a paper, a correlation of about .3; both are measured and printed.

    A/A            two models of equal quality: IMPROVED and REGRESSED are false
    +10, +5        the true correctness of the tuned model is that many points higher
    A/A 15, +10 15 the same with 15 questions, one per paper, one seed: what a small benchmark can show
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the processes are the parallelism

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY
from mlx_ragtune.scoring.verdict.decision import decide
from mlx_ragtune.scoring.verdict.metric_rows import Rules
from mlx_ragtune.scoring.verdict.pairing import match, pair_metric
from mlx_ragtune.scoring.verdict.statistics import wilson_interval

PAPER, QUESTION = 0.5, 0.5  # latent variances of the difficulty that both models share
MODEL_PAPER, MODEL_QUESTION, SEED = 0.08, 0.02, 0.12  # and of what differs between the models
TOTAL = PAPER + QUESTION + MODEL_PAPER + MODEL_QUESTION + SEED
CUTS = np.array([-0.6, 0.6])  # below the first: 0; above the second: 1; between: ½
INVALID = 0.04
RULES = Rules(margin=0.05, alpha=0.05, family=FAMILY)


@dataclass(frozen=True)
class Scenario:
    """``gain``: how much higher the true mean correctness of the tuned model is, as a share."""

    name: str
    gain: float
    papers: int = 120
    questions_per_paper: int = 2
    seeds: int = 3
    unanswerable: int = 30


SCENARIOS = (
    Scenario("A/A", 0.0),
    Scenario("+10", 0.10),
    Scenario("+5", 0.05),
    Scenario("A/A 15", 0.0, papers=15, questions_per_paper=1, seeds=1, unanswerable=0),
    Scenario("+10 15", 0.10, papers=15, questions_per_paper=1, seeds=1, unanswerable=0),
)


def _mean_correctness(shift: float) -> float:
    return float((1 - stats.norm.cdf((CUTS - shift) / TOTAL**0.5)).mean()) * (1 - INVALID)


def _shift(gain: float) -> float:
    """The latent shift that raises the mean correctness, including invalid answers, by ``gain``."""
    wanted = _mean_correctness(0.0) + gain
    return float(optimize.brentq(lambda shift: _mean_correctness(shift) - wanted, -5, 5))


def _latent(rng: np.random.Generator, papers: NDArray[np.intp], seeds: int) -> NDArray[np.float64]:
    """Latent quality of the answers, [2 models, questions, seeds]."""
    n, groups = papers.size, int(papers.max()) + 1
    difficulty = rng.normal(0, PAPER**0.5, groups)[papers] + rng.normal(0, QUESTION**0.5, n)
    own = rng.normal(0, MODEL_PAPER**0.5, (2, groups))[:, papers]
    own += rng.normal(0, MODEL_QUESTION**0.5, (2, n))
    noise = rng.normal(0, SEED**0.5, (2, n, seeds))
    return np.asarray(difficulty[None, :, None] + own[:, :, None] + noise)


def simulate(scenario: Scenario, seed: int) -> tuple[list[Question], list[Score], list[Score]]:
    """Questions and both models' scores of one run."""
    rng = np.random.default_rng([seed, 7])
    answerable = scenario.papers * scenario.questions_per_paper
    papers = np.repeat(np.arange(scenario.papers), scenario.questions_per_paper)
    lone = scenario.papers + np.arange(scenario.unanswerable)
    latent = _latent(rng, papers, scenario.seeds)
    latent[1] += _shift(scenario.gain)
    correct = np.searchsorted(CUTS, latent) / 2
    everyone = np.concatenate([papers, lone])
    yes = {
        name: _latent(rng, everyone, scenario.seeds) < stats.norm.ppf(rate) * TOTAL**0.5
        for name, rate in (("citation_recall", 0.8), ("prose_style", 0.9), ("refused", 0.6))
    }
    false_refusal = rng.random(correct.shape) < 0.03
    invalid = rng.random((2, everyone.size, scenario.seeds)) < INVALID
    questions = [
        Question(f"q{i:03}", "", "?", i < answerable, (f"p{everyone[i]:03}",) if i < answerable else (),
                 refusal_kind=None if i < answerable else ("near_miss" if i % 2 else "off_corpus"))
        for i in range(everyone.size)
    ]  # fmt: skip

    def metrics(model: int, i: int, s: int) -> dict[str, float]:
        ok = not invalid[model, i, s]
        values = {"prose_style": float(ok and yes["prose_style"][model, i, s])}
        if i >= answerable:
            kind = "refusal_near_miss" if i % 2 else "refusal_off_corpus"
            return values | {kind: float(ok and yes["refused"][model, i, s])}
        return values | {
            "correctness": float(ok * correct[model, i, s]),
            "citation_recall": float(ok and yes["citation_recall"][model, i, s]),
            "false_refusal": float(ok and false_refusal[model, i, s]),
        }

    sides: list[list[Score]] = [
        [
            Score(questions[i].id, "tuned" if model else "base", s,
                  "truncated" if invalid[model, i, s] else "ok", metrics(model, i, s))
            for i in range(everyone.size) for s in range(scenario.seeds)
        ]
        for model in (0, 1)
    ]  # fmt: skip
    return questions, sides[0], sides[1]


def run_once(task: tuple[Scenario, int]) -> dict[str, Any]:
    """One simulated run: the verdicts, and the result of an unclustered paired t test over all answers."""
    scenario, seed = task
    questions, base, tuned = simulate(scenario, seed)
    scored = match(base, tuned, questions)
    decision = decide(scored, RULES)
    row = next(row for row in decision.rows if row.name == "correctness")
    name = "correctness"
    both = [(left.metrics, right.metrics) for left, right in zip(base, tuned, strict=True)]
    differences = np.array([right[name] - left[name] for left, right in both if name in left])
    pairs = pair_metric(scored, "correctness")
    assert pairs is not None
    naive = float(stats.ttest_1samp(differences, 0).pvalue) if differences.any() else 1.0
    truth = scenario.gain
    return {
        "overall": decision.verdict,
        "correctness": row.verdict,
        "unadjusted": True,
        "naive": naive <= RULES.alpha,
        "covered": row.all.low is not None and row.all.high is not None and row.all.low <= truth <= row.all.high,
        "difference": row.all.difference,
        "spread": float(pairs.differences.std()),
        "correlation": _correlation(pairs.differences, scenario.questions_per_paper),
    }


def _correlation(differences: NDArray[np.float64], size: int) -> float | None:
    """Within-paper correlation of the differences, with each pair of questions in both orders."""
    if size < 2:
        return None
    grouped = differences.reshape(-1, size)
    return float(np.corrcoef(np.r_[grouped[:, 0], grouped[:, 1]], np.r_[grouped[:, 1], grouped[:, 0]])[0, 1])


def _rate(hits: int, runs: int) -> dict[str, float]:
    low, high = wilson_interval(hits, runs)
    return {"rate": hits / runs, "low": low, "high": high}


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates with their 95% Wilson intervals."""
    runs = len(rows)
    overall = Counter(row["overall"] for row in rows)
    correctness = Counter(row["correctness"] for row in rows)
    verdicts = ("IMPROVED", "REGRESSED", "EQUIVALENT", "INCONCLUSIVE")
    return {
        "runs": runs,
        "overall": {name: _rate(overall[name], runs) for name in verdicts},
        "correctness": {name: _rate(correctness[name], runs) for name in verdicts},
        "overall_decided": _rate(overall["IMPROVED"] + overall["REGRESSED"], runs),
        "unadjusted_p": _rate(sum(row["unadjusted"] for row in rows), runs),
        "naive_t_on_answers": _rate(sum(row["naive"] for row in rows), runs),
        "interval_covers_truth": _rate(sum(row["covered"] for row in rows), runs),
        "difference_sd": float(np.mean([row["spread"] for row in rows])),
        "within_paper_correlation": None
        if rows[0]["correlation"] is None
        else float(np.mean([row["correlation"] for row in rows])),
        "mean_difference": float(np.mean([row["difference"] for row in rows])),
    }


def checks(results: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """The required bounds: (claim, rate, bound, whether it holds)."""
    null, ten = results["A/A"], results["+10"]
    false = null["overall_decided"]["rate"]
    improved = ten["overall"]["IMPROVED"]["rate"]
    same = null["overall"]["EQUIVALENT"]["rate"]
    return [
        ("A/A called IMPROVED or REGRESSED", false, "≤ 5%", false <= 0.05),
        ("+10 points called IMPROVED", improved, "≥ 95%", improved >= 0.95),
        ("A/A called EQUIVALENT", same, "≥ 75%", same >= 0.75),
    ]


def _line(label: str, value: dict[str, float]) -> str:
    interval = f"({100 * value['low']:.1f} to {100 * value['high']:.1f})"
    return f"    {label:<34} {100 * value['rate']:5.1f}%   {interval}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    for name, result in results.items():
        print(
            f"{name}: {result['runs']} runs, mean difference {100 * result['mean_difference']:+.2f} points, "
            f"sd {result['difference_sd']:.3f}, correlation {_number(result['within_paper_correlation'])}"
        )
        for part in ("overall", "correctness"):
            for verdict, value in result[part].items():
                print(_line(f"{part} {verdict}", value))
        print(_line("any difference (overall)", result["overall_decided"]))
        print(_line("cluster sign-flip p ≤ .05", result["unadjusted_p"]))
        print(_line("naive t on answers p ≤ .05", result["naive_t_on_answers"]))
        print(_line("interval covers the truth", result["interval_covers_truth"]))
    for claim, rate, bound, holds in checks(results):
        print(f"{'holds' if holds else 'FAILS'}: {claim} in {100 * rate:.1f}% ({bound})")


def main() -> int:
    """Run all scenarios; exit status 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    results = {}
    with multiprocessing.Pool(arguments.processes) as pool:
        for scenario in SCENARIOS:
            tasks = [(scenario, seed) for seed in range(arguments.runs)]
            results[scenario.name] = summarize(pool.map(run_once, tasks, chunksize=10))
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - started, 1),
    }
    if arguments.json:
        print(json.dumps({**about, "scenarios": results, "checks": checks(results)}, indent=1))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        show(results)
    return 0 if all(holds for *_, holds in checks(results)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
