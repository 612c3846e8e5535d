"""May this judge decide? Its family, whether it thinks, and a test with planted errors before every run.

A judge prefers answers of its own model family (preference leakage, arXiv 2502.01534), and a judge that misses
planted errors measures nothing. Below the thresholds it is "not trusted", and the deterministic metrics decide.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.scoring.judge.model_judge import Judge, claims
from mlx_ragtune.scoring.judge.planted import GoodAnswer, Kind, plant

MIN_TPR = 0.85
MIN_TNR = 0.80
MAX_MISSING = 0.2

_FAMILIES = {
    "qwen": r"qwen|qwq",
    "llama": r"llama|vicuna|alpaca|tulu|hermes",
    "smollm": r"smollm",
    "gemma": r"gemma|gemini",
    "granite": r"granite",
    "mistral": r"mistral|mixtral|ministral|magistral|nemo",
    "phi": r"phi-?\d",
    "deepseek": r"deepseek",
    "gpt": r"gpt",
    "olmo": r"olmo",
    "falcon": r"falcon",
    "command": r"command-?[ar]|aya",
}
_THINKS = re.compile(r"deepseek-?r1|qwq|magistral|gpt-?oss|thinking|reasoning|-r1\b", re.IGNORECASE)


def model_name(reference: str) -> str:
    """The model's own name in a hub id, a path or an Ollama name, in lower case.

    Only the last part counts: a folder such as ``/models/qwen/`` does not say what the model in it is.
    """
    return reference.rstrip("/").rsplit("/", 1)[-1].lower().removesuffix(".gguf")


def families(reference: str) -> frozenset[str]:
    """Families of a model, by its name; a distilled model (``deepseek-r1-qwen``) belongs to both.

    A name of no known family is a family of its own.
    """
    name = model_name(reference)
    known = frozenset(family for family, pattern in _FAMILIES.items() if re.search(pattern, name))
    return known or frozenset({re.split(r"[-_:.\d]", name)[0] or name})


def check_judge(judge: str, *, contestants: Sequence[str], generator: str | None = None) -> None:
    """Raise ToolError when the judge is a thinking model, or of the family of a contestant or of the generator."""
    fix = "choose an instruct model of another family, for example granite3.3:8b or gemma3:12b; or judge: none"
    if _THINKS.search(model_name(judge)):
        raise ToolError(f"judge '{judge}' is a thinking model", where="scoring.judge", fix=fix)
    for name in (*contestants, *([generator] if generator else [])):
        if related := families(judge) & families(name):
            raise ToolError(
                f"judge '{judge}' is of the same family ({', '.join(sorted(related))}) as '{name}'",
                where="scoring.judge",
                fix=fix,
            )


@dataclass(frozen=True)
class Trust:
    """The self-test: TPR is the share of planted errors caught, TNR the share of good answers accepted.

    ``caught`` maps each kind of error to (caught, planted). Missing verdicts count in neither rate.
    """

    trusted: bool
    tpr: float | None
    tnr: float | None
    n_good: int
    caught: dict[Kind, tuple[int, int]]
    n_verdicts: int
    n_missing: int

    def __str__(self) -> str:
        def rate(value: float | None) -> str:
            return "undefined" if value is None else f"{value:.2f}"

        state = "trusted" if self.trusted else "not trusted: the deterministic metrics decide"
        return f"judge {state} (TPR {rate(self.tpr)}, TNR {rate(self.tnr)}, {self.n_missing} verdicts missing)"


def _accepts(judge: Judge, good: GoodAnswer, text: str, *, by_claims: bool) -> bool | None:
    """Whether the judge finds nothing wrong with ``text``; None when a verdict is missing."""
    if by_claims:
        verdicts = [judge.is_grounded(claim, good.contexts) for claim in claims(text)]
    else:
        vital = [nugget.text for nugget in good.question.nuggets if nugget.vital]
        verdicts = [judge.states(good.question.question, text, fact) for fact in vital]
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def self_test(judge: Judge, goods: Sequence[GoodAnswer]) -> Trust:
    """Plant every error in every good answer and ask the judge. Raises InputError for fewer than two answers.

    A fabricated title must be caught by the claim question, everything else by the nugget question; a good
    answer must pass both.
    """
    if len(goods) < 2:
        raise InputError(
            f"the judge's self-test needs two references whose papers were retrieved, and there are {len(goods)}",
            where="benchmark",
            fix="add references and vital nuggets to answerable questions; or judge: none",
        )
    planted: Counter[Kind] = Counter()
    caught: Counter[Kind] = Counter()
    passed = judged = 0
    verdicts_before, missing_before = judge.n_verdicts, judge.n_missing
    for number, good in enumerate(goods):
        for by_claims in (False, True):
            accepted = _accepts(judge, good, good.text, by_claims=by_claims)
            passed += accepted is True
            judged += accepted is not None
        for kind, text in plant(good, goods[(number + 1) % len(goods)]).items():
            accepted = _accepts(judge, good, text, by_claims=kind == "fabricated_title")
            planted[kind] += accepted is not None
            caught[kind] += accepted is False
    tpr = caught.total() / planted.total() if planted.total() else None
    tnr = passed / judged if judged else None
    n_verdicts, n_missing = judge.n_verdicts - verdicts_before, judge.n_missing - missing_before
    enough = n_missing <= MAX_MISSING * n_verdicts
    return Trust(
        trusted=enough and tpr is not None and tnr is not None and tpr >= MIN_TPR and tnr >= MIN_TNR,
        tpr=tpr,
        tnr=tnr,
        n_good=len(goods),
        caught={kind: (caught[kind], planted[kind]) for kind in sorted(planted)},
        n_verdicts=n_verdicts,
        n_missing=n_missing,
    )
