"""Go templates for servers that do not use the chat template inside a GGUF, equal to it in every kind of talk.

Only a bare question under the stored system text is rendered in another form: that of the prompts of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from json import dumps

from mlx_ragtune.clients.ollama_card import Card
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_replies import Rendered
from mlx_ragtune.errors import ToolError

_CONTENT = "{{ .Content }}"
_RANGE = f"""\
{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{_CONTENT}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
"""
# The empty think block that a hybrid model's own template writes when thinking is off.
_NO_THINKING = "<think>\n\n</think>\n\n"
_OFF = "and $.IsThinkSet (not $.Think)"
_THINKING = f"{{{{ if {_OFF} }}}}{_NO_THINKING}{{{{ end }}}}"
CHATML, CHATML_THINKING = _RANGE, _RANGE + _THINKING

TALKS: tuple[tuple[str, ...], ...] = (
    ("system", "user"),
    ("system", "user", "assistant", "user"),
    ("user",),
    ("user", "assistant", "user"),
)
"""Roles of the talks that are compared: with and without a system turn, first and later questions."""


@dataclass(frozen=True)
class _Render:
    """What a chat template makes of each talk, with thinking on and off."""

    on: tuple[str, ...]
    off: tuple[str, ...]


def _turns(roles: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} text {number}"} for number, role in enumerate(roles)]


def _chatml(roles: Sequence[str]) -> str:
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in _turns(roles))
    return f"{turns}<|im_start|>assistant\n"


def _rendered(template: str, talks: Sequence[list[dict[str, str]]]) -> _Render | None:
    """The talks as the jinja ``template`` renders them; None when it fails."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        parsed = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
        on, off = (
            tuple(parsed.render(messages=talk, add_generation_prompt=True, enable_thinking=thinking) for talk in talks)
            for thinking in (True, False)
        )
    except (TemplateError, TypeError, ValueError):
        return None
    return _Render(on, off)


def go_template(template: str) -> str | None:
    """The Go template that renders every talk as the jinja ``template`` does; None if it is not ChatML.

    A system text of the template's own before a talk without a system turn, as in SmolLM2 and Qwen2.5, is kept.
    """
    render = _rendered(template, [_turns(roles) for roles in TALKS])
    if render is None:
        return None
    without_system = TALKS.index(("user",))
    default = render.on[without_system].removesuffix(_chatml(("user",)))
    prefixes = ["" if roles[0] == "system" else default for roles in TALKS]
    expected = tuple(prefix + _chatml(roles) for prefix, roles in zip(prefixes, TALKS, strict=True))
    if render.on != expected:
        return None
    start = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{_literal(default)}{{{{ end }}}}' if default else ""
    if render.off == expected:
        return start + CHATML
    if render.off == tuple(text + _NO_THINKING for text in expected):
        return start + CHATML_THINKING
    return None


def _literal(text: str) -> str:
    """An action that prints ``text``: what is printed is not trimmed, and may hold braces."""
    return f"{{{{ {_quoted(text)} }}}}"


def _quoted(text: str) -> str:
    return dumps(text, ensure_ascii=False)


def framed_template(written: str, card: Card) -> str:
    """A Go template of ``go_template`` that gives bare questions the card's frame, under the card's system text only.

    A turn that has the form already, and any talk with another system text, is rendered as before. ``slice`` counts
    bytes, and is reached for turns that are long enough only. Where the model was tuned with thinking off, it is off
    unless it is asked for.
    """
    if not card.think:
        written = written.replace(_OFF, "not $.Think")
    if card.frame is None:
        return written
    start = card.frame.start
    long_enough = f"ge (len .Content) {len(start.encode())}"
    starts = f"and ({long_enough}) (eq (slice .Content 0 {len(start.encode())}) {_quoted(start)})"
    bare = f'and (eq .Role "user") (eq $.System {_quoted(card.system)}) (not ({starts}))'
    before, after = (_literal(text) if text else "" for text in (card.frame.before, card.frame.after))
    framed = f"{{{{ if {bare} }}}}{before}{_CONTENT}{after}{{{{ else }}}}{_CONTENT}{{{{ end }}}}"
    return written.replace(_CONTENT, framed)


def check_talks(server: Ollama, model: str, template: str, *, card: Card | None = None) -> tuple[str, ...]:
    """What the server renders differently from the jinja ``template``, as descriptions, over all kinds of talk.

    With a card, its system text stands before talks without a system turn, bare questions have its frame, which one
    more talk has already, and thinking that is not mentioned is as in training. Empty where the template cannot be
    rendered here, or the server does not return its prompts.
    """
    talks = [_turns(roles) for roles in TALKS]
    if card is not None and card.frame is not None:
        own = {"role": "user", "content": card.frame.start + "[1] text"}
        talks.append([{"role": "system", "content": card.system}, own])
    expected_talks = talks if card is None else [card.turns(talk, framed=True) for talk in talks]
    render = _rendered(template, expected_talks)
    if render is None or not server.renders:
        return ()
    asked: dict[bool | None, tuple[str, ...]] = {False: render.off}
    if "thinking" in (server.show(model).capabilities or ()):
        asked[True] = render.on
    if card is not None:
        asked[None] = render.on if card.think else render.off
    different = []
    for (number, talk), think in product(enumerate(talks), asked):
        body = {
            "model": model,
            "messages": talk,
            "stream": False,
            "options": {"num_ctx": 512},
            "_debug_render_only": True,
            **({} if think is None else {"think": think}),
        }
        served = server.checked(Rendered, "/api/chat", body).debug.rendered_template
        expected = asked[think][number]
        if served is not None and served != expected:
            roles = " – ".join(turn["role"] for turn in talk)
            in_file, at_server = _excerpts(expected, served)
            different.append(f"{roles}: {in_file} in the file, {at_server} at the server")
    return tuple(dict.fromkeys(different))


def _excerpts(expected: str, served: str) -> tuple[str, str]:
    """Both texts around the place where they begin to differ."""
    pairs = zip(expected, served, strict=False)
    at = next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(expected), len(served)))
    start = max(0, at - 20)
    first, second = (
        f"{'…' if start else ''}{text[start : start + 60]}{'…' if len(text) > start + 60 else ''}"
        for text in (expected, served)
    )
    return repr(first), repr(second)


def require_template(template: str, where: str) -> str:
    """``go_template``; raises ToolError, for a server that does not read the file's, where there is none."""
    written = go_template(template)
    if written is None:
        raise ToolError(
            "this version of Ollama does not read the chat template inside a GGUF, and the model's is not ChatML",
            where=where,
            fix="update Ollama to 0.30 or later",
        )
    return written
