"""How often is the verdict wrong? Simulated runs with a known truth through ``scoring.verdict``.

    python benchmarks/verdict.py                  # the table, about three minutes on two idle cores
    python benchmarks/verdict.py --json           # for scripts
    python benchmarks/verdict.py --runs 100       # faster, less precise

A run has 120 papers × 2 answerable questions × 3 seeds, and 30 unanswerable questions, answered by two or
three arms. The correctness of an answer (0, ½ or 1: many ties) comes from a latent normal variable. Its
components are the difficulty of the paper and of the question, shared by all arms; the fit of each arm
to the paper and to the question; and the seed. The differences within a paper are therefore correlated
under the null hypothesis too. Citing, style and refusing are yes/no, with the same structure. 4% of the
answers are invalid and get the worst value in every metric except the guard on refusals. The variances
are chosen so that the differences of question means have a standard deviation of about .22 and, within a
paper, a correlation of about .3; both are measured and printed.

    A/A             two models of equal quality: IMPROVED, REGRESSED and MIXED are false
    +10, +5         the true correctness of the tuned model is that many points higher
    A/A 30% invalid 30% of the answers of both models are unusable
    three arms      the tuned model is 10 points above the base and equal to the prompted base
    three arms A/A  all three are equal: any decision in either comparison is false
    A/A 15, +10 15  the same with 15 questions, one per paper, one seed: what a small benchmark can show
    few papers      4 to 12 papers with 4 questions each, or of very unequal sizes, one seed, and 8
                    unanswerable questions: A/A, +30 points, and nonsense against nearly perfect answers
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the processes are the parallelism

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from mlx_ragtune.records import Arm, Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY
from mlx_ragtune.scoring.verdict.comparison import MetricRow, Outcome
from mlx_ragtune.scoring.verdict.decision import compare_arms, decide
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
    """``gain``: how much higher the true mean correctness of the tuned model is, as a share.

    ``start`` is the mean correctness of the base, .5 by default. With ``prompted_gain`` there is a third arm.
    ``unequal`` gives one paper 40% of the questions and most others one or two.
    """

    name: str
    gain: float
    papers: int = 120
    questions_per_paper: int = 2
    seeds: int = 3
    unanswerable: int = 30
    invalid: float = INVALID
    start: float | None = None
    prompted_gain: float | None = None
    unequal: bool = False

    @property
    def sizes(self) -> list[int]:
        """How many questions each paper has."""
        if not self.unequal:
            return [self.questions_per_paper] * self.papers
        first = max(2, round(0.4 * self.questions_per_paper * self.papers))
        return [first, *((1, 3, self.questions_per_paper, 2)[i % 4] for i in range(self.papers - 1))]


def _few(papers: int, *, unequal: bool = False) -> tuple[Scenario, ...]:
    """The scenarios with few papers."""
    label = f"{papers} papers{', unequal' if unequal else ''}"
    same = Scenario(f"A/A, {label}", 0.0, papers, 4, seeds=1, unanswerable=8, unequal=unequal)
    return (
        same,
        replace(same, name=f"+30, {label}", gain=0.30, start=0.35),
        replace(same, name=f"nonsense to perfect, {label}", gain=0.90, start=0.03),
    )


FEW = (4, 5, 6, 8, 12)
SCENARIOS = (
    Scenario("A/A", 0.0),
    Scenario("+10", 0.10),
    Scenario("+5", 0.05),
    Scenario("A/A 30% invalid", 0.0, invalid=0.30),
    Scenario("three arms", 0.10, prompted_gain=0.10),
    Scenario("three arms A/A", 0.0, prompted_gain=0.0),
    Scenario("A/A 15", 0.0, papers=15, questions_per_paper=1, seeds=1, unanswerable=0),
    Scenario("+10 15", 0.10, papers=15, questions_per_paper=1, seeds=1, unanswerable=0),
    *(scenario for papers in FEW for scenario in _few(papers)),
    *_few(6, unequal=True),
    *_few(12, unequal=True),
)
SLOW = 0.4
"""The share of the runs that a scenario with three arms gets: it writes every sentence too."""


def _mean_correctness(shift: float, invalid: float) -> float:
    return float((1 - stats.norm.cdf((CUTS - shift) / TOTAL**0.5)).mean()) * (1 - invalid)


def _shift(wanted: float, invalid: float) -> float:
    """The latent shift that makes the mean correctness, including invalid answers, ``wanted``."""
    return float(optimize.brentq(lambda shift: _mean_correctness(shift, invalid) - wanted, -9, 9))


def _latent(rng: np.random.Generator, papers: NDArray[np.intp], seeds: int, arms: int) -> NDArray[np.float64]:
    """Latent quality of the answers, [arms, questions, seeds]."""
    n, groups = papers.size, int(papers.max()) + 1
    difficulty = rng.normal(0, PAPER**0.5, groups)[papers] + rng.normal(0, QUESTION**0.5, n)
    own = rng.normal(0, MODEL_PAPER**0.5, (arms, groups))[:, papers]
    own += rng.normal(0, MODEL_QUESTION**0.5, (arms, n))
    noise = rng.normal(0, SEED**0.5, (arms, n, seeds))
    return np.asarray(difficulty[None, :, None] + own[:, :, None] + noise)


def simulate(scenario: Scenario, seed: int) -> tuple[list[Question], dict[Arm, list[Score]]]:
    """Questions and the scores of every arm of one run."""
    rng = np.random.default_rng([seed, 7])
    names: tuple[Arm, ...] = ("base", "tuned") if scenario.prompted_gain is None else ("base", "tuned", "prompted")
    arms, answerable = len(names), sum(scenario.sizes)
    papers = np.repeat(np.arange(scenario.papers), scenario.sizes)
    lone = scenario.papers + np.arange(scenario.unanswerable)
    start = _mean_correctness(0.0, scenario.invalid) if scenario.start is None else scenario.start
    gains = (0.0, scenario.gain, scenario.prompted_gain or 0.0)[:arms]
    latent = _latent(rng, papers, scenario.seeds, arms)
    latent += np.array([_shift(start + gain, scenario.invalid) for gain in gains])[:, None, None]
    correct = np.searchsorted(CUTS, latent) / 2
    everyone = np.concatenate([papers, lone])
    yes = {
        name: _latent(rng, everyone, scenario.seeds, arms) < stats.norm.ppf(rate) * TOTAL**0.5
        for name, rate in (("citation_recall", 0.8), ("prose_style", 0.9), ("refused", 0.6))
    }
    false_refusal = rng.random(correct.shape) < 0.03
    invalid = rng.random((arms, everyone.size, scenario.seeds)) < scenario.invalid
    questions = [
        Question(f"q{i:03}", "", "?", i < answerable, (f"p{everyone[i]:03}",) if i < answerable else (),
                 refusal_kind=None if i < answerable else ("near_miss" if i % 2 else "off_corpus"))
        for i in range(everyone.size)
    ]  # fmt: skip

    def metrics(arm: int, i: int, s: int) -> dict[str, float]:
        ok = not invalid[arm, i, s]
        values = {"prose_style": float(ok and yes["prose_style"][arm, i, s])}
        if i >= answerable:
            kind = "refusal_near_miss" if i % 2 else "refusal_off_corpus"
            return values | {kind: float(ok and yes["refused"][arm, i, s])}
        return values | {
            "correctness": float(ok * correct[arm, i, s]),
            "citation_recall": float(ok and yes["citation_recall"][arm, i, s]),
            "false_refusal": float(ok and false_refusal[arm, i, s]),
        }

    sides: dict[Arm, list[Score]] = {
        name: [
            Score(questions[i].id, name, s, "truncated" if invalid[arm, i, s] else "ok", metrics(arm, i, s))
            for i in range(everyone.size) for s in range(scenario.seeds)
        ]
        for arm, name in enumerate(names)
    }  # fmt: skip
    return questions, sides


def run_once(task: tuple[Scenario, int]) -> dict[str, Any]:
    """One simulated run: the verdicts, and the result of an unclustered paired t test over all answers."""
    scenario, seed = task
    questions, sides = simulate(scenario, seed)
    base, tuned = sides["base"], sides["tuned"]
    outcome: Outcome | None = None
    rows: tuple[MetricRow, ...]
    if scenario.prompted_gain is None:
        decision = decide(match(base, tuned, questions), RULES)
        verdict, rows = decision.verdict, decision.rows
    else:
        outcome = compare_arms(base, tuned, questions, prompted=sides["prompted"])
        verdict, rows = outcome.verdict, outcome.against_base.rows
    name = "correctness"
    row = next(row for row in rows if row.name == name)
    both = [(left.metrics, right.metrics) for left, right in zip(base, tuned, strict=True)]
    differences = np.array([right[name] - left[name] for left, right in both if name in left])
    pairs = pair_metric(match(base, tuned, questions), name)
    assert pairs is not None
    naive = float(stats.ttest_1samp(differences, 0).pvalue) if differences.std() > 0 else 1.0
    truth = scenario.gain
    prompted = outcome.against_prompted if outcome else None
    return {
        "overall": verdict,
        "prompted": prompted.verdict if prompted else None,
        "not_the_prompt": outcome is not None and "beats the base, not the prompt" in outcome.headline,
        "correctness": row.verdict,
        "unadjusted": row.all.p <= RULES.alpha,
        "naive": naive <= RULES.alpha,
        "covered": row.all.low is not None and row.all.high is not None and row.all.low <= truth <= row.all.high,
        "difference": row.all.difference,
        "spread": float(pairs.differences.std()),
        "correlation": None if scenario.unequal else _correlation(pairs.differences, scenario.questions_per_paper),
    }


def _correlation(differences: NDArray[np.float64], size: int) -> float | None:
    """Within-paper correlation of the differences, over the first two questions of each paper in both orders."""
    if size < 2:
        return None
    grouped = differences.reshape(-1, size)
    first, second = np.r_[grouped[:, 0], grouped[:, 1]], np.r_[grouped[:, 1], grouped[:, 0]]
    return float(np.corrcoef(first, second)[0, 1]) if first.std() > 0 else None


def _rate(hits: int, runs: int) -> dict[str, float]:
    low, high = wilson_interval(hits, runs)
    return {"rate": hits / runs, "low": low, "high": high}


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates with their 95% Wilson intervals."""
    runs = len(rows)
    overall = Counter(row["overall"] for row in rows)
    correctness = Counter(row["correctness"] for row in rows)
    verdicts = ("IMPROVED", "MIXED", "REGRESSED", "EQUIVALENT", "INCONCLUSIVE")
    decided = [{row["overall"], row["prompted"]} & {"IMPROVED", "MIXED", "REGRESSED"} for row in rows]
    correlations = [row["correlation"] for row in rows if row["correlation"] is not None]
    return {
        "runs": runs,
        "overall": {name: _rate(overall[name], runs) for name in verdicts},
        "correctness": {name: _rate(correctness[name], runs) for name in verdicts},
        "overall_decided": _rate(sum(map(bool, decided)), runs),
        "not_the_prompt": _rate(sum(row["not_the_prompt"] for row in rows), runs),
        "unadjusted_p": _rate(sum(row["unadjusted"] for row in rows), runs),
        "naive_t_on_answers": _rate(sum(row["naive"] for row in rows), runs),
        "interval_covers_truth": _rate(sum(row["covered"] for row in rows), runs),
        "difference_sd": float(np.mean([row["spread"] for row in rows])),
        "within_paper_correlation": float(np.mean(correlations)) if correlations else None,
        "mean_difference": float(np.mean([row["difference"] for row in rows])),
    }


def checks(results: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """The required bounds: (claim, rate, bound, whether it holds)."""
    improved = results["+10"]["overall"]["IMPROVED"]["rate"]
    same = results["A/A"]["overall"]["EQUIVALENT"]["rate"]
    prompt = results["three arms"]["not_the_prompt"]["rate"]
    big = results["nonsense to perfect, 6 papers"]["overall"]["IMPROVED"]["rate"]
    false = {name: result["overall_decided"]["rate"] for name, result in results.items() if "A/A" in name}
    return [
        *((f"{name}: anything decided", rate, "≤ 5%", rate <= 0.05) for name, rate in false.items()),
        ("+10 points called IMPROVED", improved, "≥ 95%", improved >= 0.95),
        ("A/A called EQUIVALENT", same, "≥ 75%", same >= 0.75),
        ("three arms: beats the base, not the prompt", prompt, "≥ 95%", prompt >= 0.95),
        ("nonsense to perfect on 6 papers called IMPROVED", big, "≥ 95%", big >= 0.95),
    ]


def _line(label: str, value: dict[str, float]) -> str:
    interval = f"({100 * value['low']:.1f} to {100 * value['high']:.1f})"
    return f"    {label:<34} {100 * value['rate']:5.1f}%   {interval}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def show(results: dict[str, Any]) -> None:
    """Print the tables: in full for the large benchmarks, one line each for few papers."""
    for name, result in results.items():
        if "papers" in name:
            continue
        print(
            f"{name}: {result['runs']} runs, mean difference {100 * result['mean_difference']:+.2f} points, "
            f"sd {result['difference_sd']:.3f}, correlation {_number(result['within_paper_correlation'])}"
        )
        for part in ("overall", "correctness"):
            for verdict, value in result[part].items():
                print(_line(f"{part} {verdict}", value))
        print(_line("any difference (overall)", result["overall_decided"]))
        if "three arms" in name:
            print(_line("beats the base, not the prompt", result["not_the_prompt"]))
        print(_line("unadjusted p ≤ .05", result["unadjusted_p"]))
        print(_line("naive t on answers p ≤ .05", result["naive_t_on_answers"]))
        print(_line("interval covers the truth", result["interval_covers_truth"]))
    print("few papers, 4 questions each (unequal: one has 40% of them): IMPROVED; for A/A, anything decided")
    for name, result in results.items():
        if "papers" in name:
            print(_line(name, result["overall_decided"] if "A/A" in name else result["overall"]["IMPROVED"]))
    for claim, rate, bound, holds in checks(results):
        print(f"{'holds' if holds else 'FAILS'}: {claim} in {100 * rate:.1f}% ({bound})")


def main() -> int:
    """Run all scenarios; exit status 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    results = {}
    with multiprocessing.Pool(arguments.processes) as pool:
        for scenario in SCENARIOS:
            runs = arguments.runs if scenario.prompted_gain is None else max(1, round(SLOW * arguments.runs))
            tasks = [(scenario, seed) for seed in range(runs)]
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
