"""How good a trial is: its answers to validation questions, and to general probes, in MLX from the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_ragtune.evaluation.items import PROBE_SYSTEM
from mlx_ragtune.evaluation.quick_score import quick_score
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.records import Example, Message
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.scoring.answers.probes import Probe, passes
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.load import Base


@dataclass(frozen=True)
class Development:
    """What every trial of a sweep is asked: validation questions, never the benchmark's, and general probes."""

    rows: Sequence[Example]
    probes: Sequence[Probe]
    thinking: bool
    probe_tokens: int

    def score(self, loaded: Base) -> float:
        """The mean score of greedy answers, in [0, 1]: ``evaluation.quick_score``."""
        return quick_score(loaded, self.rows, thinking=self.thinking, seed=0, most=len(self.rows))

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
        answers = decode(loaded.model, loaded.tokenizer, prompts, max_tokens=self.probe_tokens, stop=repeats)
        texts = {self.probes[index].id: answer.text for index, answer in answers}
        return {probe.id: passes(probe, texts[probe.id]) for probe in self.probes}


def probe_loss(base: dict[str, bool], tuned: dict[str, bool]) -> float:
    """The share of probes that the base passes and the tuned model fails, less those that only the tuned one passes."""
    return sum(base[name] - tuned[name] for name in base) / len(base)
