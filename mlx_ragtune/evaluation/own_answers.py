"""The base model's own answers to the rehearsal prompts, and which of them are worth training on.

A prompt is sent as a chat user would send it: no system text of ours, the base's own template, greedily. What is
answered together is rounded together, so an interrupted run may end with other answers where two tokens tie.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_ragtune.artifact import Track, digest_json
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.evaluation.quick import split_thinking
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.models.prompts import context_window, prompt_tokens
from mlx_ragtune.records import Answer, Example, Message, Sampling
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.validity import classify
from mlx_ragtune.synthesis.rehearsal_prompts import RehearsalPrompt
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.load import Precision, load_base
from mlx_ragtune.tuning.memory import apply_caps, caps_here

SHORT_IS_FINE = "too_short"
"""A validity that is no fault here: many prompts ask for a word or a number."""


@dataclass(frozen=True)
class OwnAnswers:
    """Answers by the prompt's id; ``reused`` counts those that an earlier run gave."""

    answers: Mapping[str, Answer]
    reused: int


@dataclass(frozen=True)
class Usable:
    """Rows for training, in the order of the prompts, and how many answers are not used, by reason.

    ``refusals`` counts the rows that look like one. They are used: what looks like one among general answers often is
    none, and the base's own refusals are its own too. A base that refuses most prompts is not worth rehearsing.
    """

    rows: tuple[Example, ...]
    dropped: Mapping[str, int]
    refusals: int

    @property
    def mostly_refusals(self) -> bool:
        """Whether more than half of the rows look like refusals."""
        return 2 * self.refusals > len(self.rows)


@dataclass(frozen=True)
class BaseAsker:
    """Answers prompts with the base in ``folder`` in a precision, with at most ``max_tokens`` tokens each."""

    folder: Path
    precision: Precision
    thinking: bool
    max_tokens: int

    def keys(self, prompts: Sequence[RehearsalPrompt]) -> dict[str, RehearsalPrompt]:
        """The prompts by the key of their answer: base, precision, thinking, text, length, and versions of MLX."""
        versions = [importlib.metadata.version(name) for name in ("mlx", "mlx-lm")]
        device = "cpu" if mx.default_device() == mx.Device(mx.cpu) else "gpu"
        model = [base_digest(self.folder), self.precision, self.thinking, self.max_tokens, *versions, device]
        return {digest_json(["rehearsal", *model, prompt.prompt]): prompt for prompt in prompts}

    def ask(self, prompts: Sequence[RehearsalPrompt], log: RowLog, track: Track) -> OwnAnswers:
        """An answer to every prompt. Those in the log are not asked again; each new one is appended at once."""
        keys = self.keys(prompts)
        answers = {answer.key: answer for answer in log.rows(Answer) if answer.key in keys}
        reused = len(answers)
        track.advance(reused)
        missing = [key for key in keys if key not in answers]
        if missing:
            self._answer(missing, keys, log, track, answers)
        return OwnAnswers({prompt.id: answers[key] for key, prompt in keys.items()}, reused)

    def _answer(
        self,
        missing: Sequence[str],
        keys: Mapping[str, RehearsalPrompt],
        log: RowLog,
        track: Track,
        answers: dict[str, Answer],
    ) -> None:
        apply_caps(caps_here())
        loaded = load_base(self.folder, self.precision)
        tokens = [
            prompt_tokens((Message("user", keys[key].prompt),), loaded.tokenizer, thinking=self.thinking)
            for key in missing
        ]
        found = decode(loaded.model, loaded.tokenizer, tokens, max_tokens=self.max_tokens, stop=repeats)
        for index, decoded in found:
            key = missing[index]
            answers[key] = Answer(
                key=key,
                question_id=keys[key].id,
                model="base",
                seed=0,
                text=decoded.text,
                done_reason=decoded.reason,
                prompt_tokens=len(tokens[index]),
                answer_tokens=decoded.tokens,
                latency_seconds=0.0,
                parallel=True,  # its times say nothing about the model
            )
            log.append(answers[key])
            track.advance(note=keys[key].id)
        del loaded
        mx.clear_cache()

    def usable(self, prompts: Sequence[RehearsalPrompt], answers: Mapping[str, Answer]) -> Usable:
        """The rows of the answers that can be trained on.

        Not used are invalid answers (``scoring.answers.validity``: truncated, empty, in a loop, …). A row's answer is
        the whole text, with its think block.
        """
        sampling = Sampling(max_tokens=self.max_tokens, context_tokens=context_window(self.folder))
        rows: list[Example] = []
        dropped: Counter[str] = Counter()
        refusals = 0
        for prompt in prompts:
            answer = answers[prompt.id]
            text = split_thinking(answer.text)[0] if self.thinking else answer.text
            validity = classify(replace(answer, text=text), sampling)
            if validity not in ("ok", SHORT_IS_FINE):
                dropped[validity] += 1
            else:
                refusals += is_refusal(text)
                name = f"rehearsal-{prompt.id}"
                messages = (Message("user", prompt.prompt), Message("assistant", answer.text.strip()))
                rows.append(Example(name, "rehearsal", name, messages))
        return Usable(tuple(rows), dict(sorted(dropped.items())), refusals)
