"""What a model at Ollama has of its own: what ``ollama run NAME`` uses, and ``ollama show NAME`` prints.

Requests of ragtune send a system turn and every option themselves, so nothing of it changes an evaluation.

    ollama run NAME "question"
      │  stored system text, sampling, stop words, context length
      ▼
    system: the trained text      user: Papers: (none), Question: question      ─► the form of a prompt without passages
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlx_ragtune.records import Message, Passage, Sampling
from mlx_ragtune.retrieval.prompt import build_messages

_MARK = "\u2060question\u2060"
"""Word joiners are not white space, so the prompt keeps them."""


@dataclass(frozen=True)
class Frame:
    """The form of a prompt: how its user turn begins, and what stands around a question without passages."""

    start: str
    before: str
    after: str

    def around(self, question: str) -> str:
        """The user turn: as it is when it has the form already."""
        return question if question.startswith(self.start) else f"{self.before}{question}{self.after}"


@dataclass(frozen=True)
class Card:
    """``system`` text, ``options`` by Ollama's names, and the ``texts`` that stand as its license."""

    system: str
    options: Mapping[str, Any]
    texts: tuple[str, ...] = ()
    frame: Frame | None = None
    think: bool = False
    """Whether the model was tuned with thinking on."""

    def turns(self, turns: list[dict[str, str]], *, framed: bool) -> list[dict[str, str]]:
        """What the server makes of chat turns before it renders them; ``framed``: its template adds the frame."""
        if turns[0]["role"] == "system" and turns[0]["content"] != self.system:
            return turns
        whole = turns if turns[0]["role"] == "system" else [{"role": "system", "content": self.system}, *turns]
        if not framed or self.frame is None:
            return whole
        frame = self.frame
        return [
            {**turn, "content": frame.around(turn["content"])} if turn["role"] == "user" else turn for turn in whole
        ]


def ollama_options(sampling: Sampling) -> dict[str, Any]:
    """The options of a request, and the parameters of a model, by Ollama's names."""
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "seed": sampling.seed,
        "num_predict": sampling.max_tokens,
        "num_ctx": sampling.context_tokens,
    }


def trained_frame() -> tuple[str, Frame]:
    """The system text of every prompt with passages, and the form of its user turn."""
    system, user = build_messages((), _MARK)
    before, _, after = user.content.partition(_MARK)
    return system.content, Frame(before.partition("(none)")[0], before, after)


def card_of(sampling: Sampling, *, tuned: bool, base: str, think: bool = False) -> Card:
    """The card of a recipe's model. ``base`` names the base model in public; empty for one on this machine only."""
    system, frame = trained_frame()
    return Card(system, ollama_options(sampling), _texts(tuned=tuned, base=base), frame, think)


def _texts(*, tuned: bool, base: str) -> tuple[str, ...]:
    use = (
        'Made to answer from passages of papers: ragtune ask RECIPE "QUESTION" finds and shows them.\n'
        if tuned
        else 'Registered for comparison with its tuned model: ragtune ask RECIPE "QUESTION" --model both.\n'
    )
    plain = "`ollama run` shows it no passages: a question should be refused there; any answer is unsupported.\n"
    passage = Passage("", "", "TITLE", "TEXT")
    form = (
        "\nA prompt has the stored system text and a user turn of this form, the passages numbered from 1:\n\n"
        f"{build_messages((passage,), 'QUESTION')[1].content}\n\n"
        "Sampling, stop words and context length are those of the evaluation.\n"
    )
    license_text = f"The license of the base model applies{f': {base}' if base else '.'}\n"
    return (use + plain + form, license_text)


NO_THINKING = "Tuned with thinking off. Where Ollama uses the file's own template: ollama run --think=false NAME\n"


def stop_words(template: str) -> tuple[str, ...]:
    """What ends a turn in a jinja chat template: ``<|im_end|>``; nothing for a template without such a word."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    turns = [Message("system", "s"), Message("user", "u"), Message("assistant", _MARK)]
    try:
        parsed = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
        text = parsed.render(messages=[asdict(turn) for turn in turns], add_generation_prompt=False, eos_token="")
    except (TemplateError, TypeError, ValueError):
        return ()
    words = text.rpartition(_MARK)[2].split()
    return (words[0],) if words and words[0].startswith("<") and words[0].endswith(">") else ()
