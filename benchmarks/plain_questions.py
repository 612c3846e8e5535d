"""How often the models of a recipe refuse a question without passages, as ``ollama run NAME`` asks it.

    python benchmarks/plain_questions.py                                        # recipes/smoke.yaml: a toy, seconds
    python benchmarks/plain_questions.py recipes/demo.yaml
    python benchmarks/plain_questions.py recipes/demo.yaml --set dataset.no_passages=0.1

Asks answerable questions of the benchmark, which no training row asks, in both forms that a plain question can have:
``Papers: (none)`` where Ollama renders prompts by a template of its own, else the bare question under the same system
text.
Stages that are not up to date run first. The embedded server answers greedily, on the exported files.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer  # noqa: E402
from mlx_ragtune.jsonl import read_rows  # noqa: E402
from mlx_ragtune.pages.tables import render_table  # noqa: E402
from mlx_ragtune.recipe_layers import parse_settings  # noqa: E402
from mlx_ragtune.records import ChatRequest, Message, Question, Sampling  # noqa: E402
from mlx_ragtune.retrieval.prompt import build_messages  # noqa: E402
from mlx_ragtune.runner import Run, open_recipe  # noqa: E402
from mlx_ragtune.scoring.answers.refusal import is_refusal  # noqa: E402


def prompts(question: str) -> dict[str, tuple[Message, ...]]:
    """Both forms of a question without passages."""
    system, user = build_messages((), question)
    return {"Papers: (none)": (system, user), "bare question": (system, Message("user", question))}


def measure(run: Run, count: int) -> list[list[str]]:
    """A row for each model and form: refusals of ``count`` questions, and the first answer that is none."""
    asked = [row.question for row in read_rows(run.recipe.benchmark, Question) if row.answerable][:count]
    sampling = Sampling(**run.recipe.evaluate.sampling.model_dump())
    think = run.recipe.dataset.thinking == "on"
    rows = []
    for model in ("base", "tuned"):
        gguf = run.artifact("export") / f"{model}.gguf"
        with LlamaCppServer(gguf, context_tokens=sampling.context_tokens) as server:
            for form in prompts(""):
                answers = [
                    server.chat(ChatRequest(prompts(question)[form], sampling, think=think)).text for question in asked
                ]
                refused = [is_refusal(answer) for answer in answers]
                made_up = next((text for text, no in zip(answers, refused, strict=True) if not no), "")
                rows.append([model, form, f"{sum(refused)}/{len(asked)}", " ".join(made_up.split())[:60]])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "smoke.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--questions", type=int, default=40)
    arguments = parser.parse_args()
    run = open_recipe(arguments.recipe, parse_settings(tuple(arguments.set)))
    run.bring("export")
    print(render_table(["model", "form", "refused", "an answer that is no refusal"], measure(run, arguments.questions)))


if __name__ == "__main__":
    main()
