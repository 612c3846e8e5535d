"""Scoring the same answers twice, in another process with another hash seed, gives the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from tests.scoring.test_corruption import CORRUPTIONS, GOODS, REFUSAL, REFUSED
from tests.scoring.made import SAMPLING, TITLES, answer, passage
from mlx_ragtune.jsonl import to_json
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.verdict.decision import compare_arms

questions = [good.question for good in GOODS] + list(REFUSED)
base, tuned = [], []
for number, asked in enumerate(questions):
    good = GOODS[number] if number < len(GOODS) else None
    spoil = list(CORRUPTIONS.values())[number][0]
    texts = (good.text, spoil(good)) if good else (REFUSAL, "Paris is the capital of France.")
    for model, text, side in (("base", texts[0], base), ("tuned", texts[1], tuned)):
        given = answer(text, question_id=asked.id, model=model)
        shown = [passage("qlora"), passage("lora")]
        side.append(score_answer(asked, given, shown, TITLES, sampling=SAMPLING))
print("\\n".join(map(to_json, base + tuned)))
print(compare_arms(base, tuned, questions).to_json())
"""


def _run(hash_seed: str) -> bytes:
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        check=True,
    )
    return found.stdout


def test_scoring_twice_gives_the_same_bytes() -> None:
    first = _run("1")
    assert first.count(b"\n") > 50
    assert first == _run("2")
