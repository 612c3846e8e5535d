"""How good a trial is: its answers to validation questions, and to general probes, in MLX from the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_ragtune.evaluation.items import PROBE_SYSTEM
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.records import Example, Message
from mlx_ragtune.scoring.answers.probes import Probe, passes
from mlx_ragtune.tuning.decode import greedy_answers
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.select import MAX_TOKENS, score_answer


@dataclass(frozen=True)
class Development:
    """What every trial of a sweep is asked: validation questions, never the benchmark's, and general probes."""

    rows: Sequence[Example]
    probes: Sequence[Probe]
    thinking: bool
    probe_tokens: int

    def score(self, loaded: Base) -> float:
        """The mean score of greedy answers, in [0, 1], as ``train.select: task`` computes it."""
        prompts = [prompt_tokens(row.messages[:-1], loaded.tokenizer, thinking=self.thinking) for row in self.rows]
        answers = greedy_answers(loaded.model, loaded.tokenizer, prompts, max_tokens=MAX_TOKENS)
        return sum(map(score_answer, self.rows, answers)) / len(self.rows)

    def passed(self, loaded: Base) -> dict[str, bool]:
        """Whether each probe is passed, by its id."""
        prompts = [
            prompt_tokens(
                (Message("system", PROBE_SYSTEM), Message("user", probe.prompt)),
                loaded.tokenizer,
                thinking=self.thinking,
            )
            for probe in self.probes
        ]
        answers = greedy_answers(loaded.model, loaded.tokenizer, prompts, max_tokens=self.probe_tokens)
        return {probe.id: passes(probe, answer) for probe, answer in zip(self.probes, answers, strict=True)}


def probe_loss(base: dict[str, bool], tuned: dict[str, bool]) -> float:
    """The share of probes that the base passes and the tuned model fails, less those that only the tuned one passes."""
    return sum(base[name] - tuned[name] for name in base) / len(base)
