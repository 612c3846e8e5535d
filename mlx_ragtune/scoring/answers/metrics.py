"""Every metric that can be compared: its label, its direction, its worst value and its role.

Roles: ``decides`` metrics may be in the family that forms the verdict (by default ``FAMILY``, the primary
metric first; a trusted judge's correctness replaces the lexical one); ``guard`` metrics can only veto it;
``supporting`` and ``secondary`` metrics decide nothing, and secondary ones are easy to fool.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["decides", "guard", "supporting", "secondary"]
Unit = Literal["share", "seconds", "tokens", "tokens/s", "words"]


@dataclass(frozen=True)
class Metric:
    """One metric. ``worst`` is the value of an invalid answer; None keeps the measured value.

    A metric that is not ``judged`` has no better direction: it is reported without a verdict.
    """

    name: str
    label: str
    role: Role
    higher_is_better: bool = True
    worst: float | None = 0.0
    unit: Unit = "share"
    judged: bool = True


_ALL = (
    Metric("correctness", "Correct facts", "decides"),
    Metric("judged_correctness", "Correct facts (judged)", "decides"),
    Metric("citation_recall", "Citing the right paper", "decides"),
    Metric("prose_style", "Plain prose", "decides"),
    Metric("refusal_off_corpus", "Refusing questions outside the papers", "decides"),
    Metric("refusal_near_miss", "Refusing questions the papers almost answer", "decides"),
    Metric("invalid", "Unusable answers", "guard", False, None),
    # As measured: if invalid base answers counted as refusals, a tuned model could refuse as often unnoticed.
    Metric("false_refusal", "Refusing answerable questions", "guard", False, None),
    Metric("citation_rate", "Citing any paper", "supporting"),
    Metric("citation_precision", "Share of citations that are right", "supporting"),
    Metric("outside_context_citation", "Citing a paper that was not shown", "supporting", False, 1.0),
    Metric("fabricated_title", "Making up a title", "supporting", False, 1.0),
    Metric("grounding", "Sentences supported by the papers shown (judged)", "supporting"),
    Metric("number_grounding", "Numbers found in the papers shown", "supporting"),
    Metric("keyword_coverage", "Keyword coverage", "secondary"),
    Metric("substantive", "Substantive answers (ten or more words)", "secondary"),
    Metric("similarity", "Embedding cosine to the reference", "secondary"),
    Metric("bertscore_f1", "BERTScore F1 to the reference", "secondary"),
    Metric("latency_seconds", "Latency, warm", "secondary", False, None, "seconds"),
    Metric("first_token_seconds", "Time to first token, warm", "secondary", False, None, "seconds"),
    Metric("cold_first_token_seconds", "Time to first token, cold", "secondary", False, None, "seconds"),
    Metric("load_seconds", "Model load time", "secondary", False, None, "seconds"),
    Metric("tokens_per_second", "Generation speed", "secondary", True, None, "tokens/s"),
    Metric("answer_words", "Answer length", "secondary", False, None, "words", judged=False),
    Metric("prompt_tokens", "Prompt length", "secondary", False, None, "tokens", judged=False),
    Metric("answer_tokens", "Answer length in tokens", "secondary", False, None, "tokens", judged=False),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
FAMILY = ("correctness", "citation_recall", "prose_style", "refusal_off_corpus", "refusal_near_miss")
GUARDS = tuple(metric.name for metric in _ALL if metric.role == "guard")
