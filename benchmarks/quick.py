"""The quick path compared with the served path on one run: agreement of answers and of metrics, and time.

    python benchmarks/quick.py recipes/demo.yaml

Runs the recipe to ``evaluate`` with both engines; finished stages are reused. Prompts must be equal byte for byte.
Prints, for each arm, how many answers are the same text and how many words they share, the means of the metrics that
decide on both paths, and what each path took from the adapter to the verdict. Answers that were there before cost
nothing: for a comparison of times use an empty RAGTUNE_RUNS.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_ragtune.artifact import read_artifact
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Answer, Score
from mlx_ragtune.runner import Run, open_recipe
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import read_outcome
from mlx_ragtune.tuning.select import word_overlap

SERVED_STAGES = ("4-fuse", "5-export", "6-register", "7-evaluate")


def answers_of(run: Run) -> dict[tuple[str, str], Answer]:
    """The answers to the benchmark, by arm and question."""
    rows = read_rows(run.home / "7-evaluate" / "used.jsonl", Answer)
    return {(row.model, row.question_id): row for row in rows if not row.error}


def means_of(run: Run, asked: Collection[str]) -> dict[str, dict[str, tuple[float, int]]]:
    """Mean and number of values of each metric over these questions, by arm; unusable answers are one of them."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in read_rows(run.home / "7-evaluate" / "scores.jsonl", Score):
        if score.question_id not in asked:
            continue
        values[score.model]["unusable"].append(float(score.validity != "ok"))
        for name, value in score.metrics.items():
            values[score.model][name].append(value)
    return {
        arm: {name: (sum(given) / len(given), len(given)) for name, given in by_name.items()}
        for arm, by_name in values.items()
    }


def agreement(served: Mapping[tuple[str, str], Answer], quick: Mapping[tuple[str, str], Answer]) -> dict[str, Any]:
    """For each arm: questions, the same texts, and the mean F1 of the words. Exits when a prompt differs."""
    different = [key for key in served.keys() & quick.keys() if served[key].prompt_sha256 != quick[key].prompt_sha256]
    if different:
        sys.exit(f"different prompts: {different[:5]}")
    result = {}
    for arm in dict.fromkeys(arm for arm, _ in served):
        pairs = [
            (served[key].text.strip(), quick[key].text.strip()) for key in served if key[0] == arm and key in quick
        ]
        overlap = sum(word_overlap(left, right) for left, right in pairs) / max(1, len(pairs))
        same = sum(left == right for left, right in pairs)
        result[arm] = {"questions": len(pairs), "same_text": same, "word_overlap": round(overlap, 3)}
    return result


def seconds_of(run: Run, stages: Sequence[str]) -> dict[str, float]:
    """What each stage took, from its manifest."""
    artifacts = {stage: read_artifact(run.home / stage) for stage in stages}
    return {stage: artifact.manifest["seconds"] for stage, artifact in artifacts.items() if artifact}


def metric_rows(served: Run, quick: Run) -> list[list[str]]:
    """Arm, metric, and its mean on both paths over the questions of both, for shares."""
    asked = {name for _, name in answers_of(served).keys() & answers_of(quick).keys()}
    rows, first, second = [], means_of(served, asked), means_of(quick, asked)
    for arm, by_name in first.items():
        for name, (mean, count) in sorted(by_name.items()):
            unit = METRICS[name].unit if name in METRICS else "share"
            if unit == "share" and name in second[arm]:
                other = second[arm][name][0]
                rows.append([arm, name, f"{mean:.3f}", f"{other:.3f}", f"{other - mean:+.3f}", str(count)])
    return rows


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    recipe = parser.parse_args().recipe
    served = open_recipe(recipe, {"evaluate.engine": "served"})
    quick = open_recipe(recipe, {"evaluate.engine": "mlx"})
    for run in (quick, served):
        run.say = lambda text: print(text, file=sys.stderr)
        run.run(until="evaluate")
    texts = agreement(answers_of(served), answers_of(quick))
    print(json.dumps(texts, indent=2))
    for row in (["arm", "metric", "served", "quick", "change", "n"], *metric_rows(served, quick)):
        print("{:9} {:28} {:>7} {:>7} {:>7} {:>4}".format(*row))
    for name, run, stages in (("served", served, SERVED_STAGES), ("quick", quick, ("7-evaluate",))):
        seconds = seconds_of(run, stages)
        outcome = read_outcome(run.home / "7-evaluate" / "verdict.json")
        print(f"{name}: {outcome.verdict}, {sum(seconds.values()):.0f} s from the adapter to the verdict {seconds}")


if __name__ == "__main__":
    main()
