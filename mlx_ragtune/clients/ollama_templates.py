"""Go templates for servers that do not use the chat template inside a GGUF, equal to it in every kind of talk."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from json import dumps

from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_replies import Rendered
from mlx_ragtune.errors import ToolError

_RANGE = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
# The empty think block that a hybrid model's own template writes when thinking is off.
_NO_THINKING = "<think>\n\n</think>\n\n"
_THINKING = f"{{{{ if and $.IsThinkSet (not $.Think) }}}}{_NO_THINKING}{{{{ end }}}}"
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


def _rendered(template: str) -> _Render | None:
    """The talks as the jinja ``template`` renders them; None when it fails."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        parsed = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
        on, off = (
            tuple(
                parsed.render(messages=_turns(roles), add_generation_prompt=True, enable_thinking=thinking)
                for roles in TALKS
            )
            for thinking in (True, False)
        )
    except (TemplateError, TypeError, ValueError):
        return None
    return _Render(on, off)


def go_template(template: str) -> str | None:
    """The Go template that renders every talk as the jinja ``template`` does; None if it is not ChatML.

    A system text of the template's own before a talk without a system turn, as in SmolLM2 and Qwen2.5, is kept.
    """
    render = _rendered(template)
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
    return f"{{{{ {dumps(text, ensure_ascii=False)} }}}}"


def check_talks(server: Ollama, model: str, template: str) -> tuple[str, ...]:
    """What the server renders differently from the jinja ``template``, as descriptions, over all kinds of talk.

    Empty where the template cannot be rendered here, or the server does not return its prompts.
    """
    render = _rendered(template)
    if render is None or not server.renders:
        return ()
    thinks = "thinking" in (server.show(model).capabilities or ())
    different = []
    for (number, roles), think in product(enumerate(TALKS), (False, True) if thinks else (False,)):
        body = {
            "model": model,
            "messages": _turns(roles),
            "think": think,
            "stream": False,
            "options": {"num_ctx": 512},
            "_debug_render_only": True,
        }
        served = server.checked(Rendered, "/api/chat", body).debug.rendered_template
        expected = (render.on if think else render.off)[number]
        if served is not None and served != expected:
            different.append(f"{' – '.join(roles)}: {_excerpt(expected)} in the file, {_excerpt(served)} at the server")
    return tuple(dict.fromkeys(different))


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


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
