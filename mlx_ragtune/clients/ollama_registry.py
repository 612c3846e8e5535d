"""Registering a GGUF with Ollama, checking what became of it there, and removing it again."""

import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.ollama_http import CHUNK_BYTES, Era, Ollama, PassingError
from mlx_ragtune.clients.receipts import GgufFacts, Receipt, gguf_facts, text_digest
from mlx_ragtune.errors import ToolError

Progress = Callable[[int, int], None]

MLX_TYPES = {"BF16": "", "Q8_0": "int8", "Q4_K_M": "int4"}
"""What Ollama's MLX engine calls the types nearest to ours; BF16 stays as it is."""
FOLDER_FILES = ("*.safetensors", "*.json", "*.jinja")
IGNORE_THINK = frozenset({"qwen3-coder"})

CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
# The empty think block that a hybrid model's own template writes when thinking is off.
CHATML_THINKING = CHATML + "{{ if and $.IsThinkSet (not $.Think) }}<think>\n\n</think>\n\n{{ end }}"


def require_server(host: str) -> str:
    """The version of the Ollama at ``host``. Raises ToolError when none answers or it is too old."""
    with Ollama(host, attempts=2) as server:
        return f"{server.version} ({server.era.name})"


def register_model(
    host: str,
    name: str,
    gguf: Path,
    *,
    template: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Receipt:
    """Upload a GGUF where the server lacks it, create the model, and return what the server made of it.

    An existing model of that name is replaced. ``template`` is a Go template; by default none is sent
    where the server reads the one inside the file, and an equal one where it does not. Raises ToolError
    when the server refuses, or reports another quantization than the file's.
    """
    facts = gguf_facts(gguf)
    with Ollama(host) as server:
        if template is None and not server.era.reads_jinja:
            template = go_template(facts, server.host)
        digest = f"sha256:{file_digest(gguf)}"
        _upload(server, gguf, digest, progress)
        body: dict[str, Any] = {"model": name, "files": {f"{name}.gguf": digest}, "stream": True}
        if template is not None:
            body["template"] = template
        if parameters:
            body["parameters"] = dict(parameters)
        server.healing(lambda: _create(server, body))
        receipt = describe(server, name, gguf_sha256=digest.removeprefix("sha256:"))
    if receipt.type != facts.type:
        raise ToolError(
            f"Ollama holds '{name}' as {receipt.type}, but the file is {facts.type}",
            where=server.host,
            fix="ragtune register RECIPE --redo",
        )
    return receipt


def require_mlx_engine(host: str, kind: str, *, system: str = platform.system()) -> None:
    """Raise ToolError, with the reason, where Ollama's MLX engine cannot take a model folder at this type."""
    fix = "set 'register.route: gguf'"
    if system != "Darwin":
        raise ToolError(f"Ollama's MLX engine runs on a Mac only, and this is {system}", where=host, fix=fix)
    if kind not in MLX_TYPES:
        known = ", ".join(MLX_TYPES)
        raise ToolError(
            f"Ollama's MLX engine has no type like {kind}", where="export.type", fix=f"one of {known}; or {fix}"
        )
    with Ollama(host, attempts=2) as server:
        if not server.era.imports_folders:
            raise ToolError(f"Ollama {server.version} takes no model folders: 0.34.1 is the first", where=host, fix=fix)


def register_folder(
    host: str, name: str, folder: Path, *, kind: str, progress: Progress = lambda _done, _total: None
) -> Receipt:
    """Upload a model folder for Ollama's MLX engine and return what the server made of it.

    Raises ToolError when the server refuses, or gives the model a renderer that ignores ``think``.
    """
    files = [file for pattern in FOLDER_FILES for file in sorted(folder.glob(pattern))]
    digests = {file.name: f"sha256:{file_digest(file)}" for file in files}
    total, before = sum(file.stat().st_size for file in files), 0
    with Ollama(host) as server:
        for file in files:
            _upload(server, file, digests[file.name], _further(progress, before, total))
            before += file.stat().st_size
        body: dict[str, Any] = {"model": name, "files": digests, "stream": True}
        if MLX_TYPES[kind]:
            body["quantize"] = MLX_TYPES[kind]
        server.healing(lambda: _create(server, body))
        sent = text_digest("".join(f"{file} {digest}\n" for file, digest in digests.items()))
        receipt = replace(describe(server, name, gguf_sha256=sent), route="mlx")
        if receipt.renderer in IGNORE_THINK:
            server.request("DELETE", "/api/delete", {"model": name})
            raise ToolError(
                f"Ollama would render '{name}' by its '{receipt.renderer}', which ignores 'think'",
                where=server.host,
                fix="set 'register.route: gguf'",
            )
    return receipt


def _further(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one file among several, as progress of the whole."""
    return lambda done, _size: progress(before + done, total)


def _upload(server: Ollama, gguf: Path, digest: str, progress: Progress) -> None:
    size = gguf.stat().st_size
    if not server.holds(digest):

        def pieces() -> Iterator[bytes]:
            done = 0
            with gguf.open("rb") as stream:
                while piece := stream.read(CHUNK_BYTES):
                    yield piece
                    done += len(piece)
                    progress(done, size)

        server.upload(digest, pieces, size)
        if not server.holds(digest):
            raise ToolError(f"Ollama took the file but does not hold {digest}", where=server.host)
    progress(size, size)


def _create(server: Ollama, body: dict[str, Any]) -> None:
    status = ""
    for line in server.lines("/api/create", body):
        status = line.get("status", status)
    if status != "success":
        raise PassingError(f"creating the model ended with '{status}', not with success", where=server.host)


def go_template(facts: GgufFacts, where: str) -> str:
    """The Go template equal to a ChatML template, for servers that do not read the GGUF's own.

    Equal as far as rendering a conversation tells. Raises ToolError for any other template.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    turns = [{"role": role, "content": f"{role} text"} for role in ("system", "user", "assistant", "user")]
    expected = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in turns)
    expected += "<|im_start|>assistant\n"
    try:
        parsed = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(facts.template)
        on = parsed.render(messages=turns, add_generation_prompt=True, enable_thinking=True)
        off = parsed.render(messages=turns, add_generation_prompt=True, enable_thinking=False)
    except TemplateError:
        on = off = ""
    if (on, off) == (expected, expected):
        return CHATML
    if (on, off) == (expected, expected + "<think>\n\n</think>\n\n"):
        return CHATML_THINKING
    raise ToolError(
        "this Ollama does not read the chat template inside a GGUF, and the model's is not ChatML",
        where=where,
        fix="update Ollama to 0.30 or later",
    )


def describe(server: Ollama, name: str, *, gguf_sha256: str) -> Receipt:
    """What the server says of a model it holds. Raises ToolError when it has none of that name."""
    shown = server.request("POST", "/api/show", {"model": name})
    return Receipt(
        name=name,
        server="ollama",
        version=server.version,
        digest=served_digest(server, name) or "",
        gguf_sha256=gguf_sha256,
        type=str(shown["details"]["quantization_level"]),
        template_sha256=text_digest(shown.get("template", "")),
        host=server.host,
        parameters=_parameters(shown.get("parameters", "")),
        renderer=shown.get("renderer", ""),
        parser=shown.get("parser", ""),
        capabilities=tuple(sorted(shown.get("capabilities", ()))),
    )


def _parameters(text: str) -> dict[str, list[str]]:
    """``stop "<|im_end|>"`` lines as lists by name."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if key:
            found.setdefault(key, []).append(value.strip())
    return {key: sorted(values) for key, values in sorted(found.items())}


def full_name(name: str) -> str:
    """The name with its tag, as the server lists it."""
    return name if re.search(r":[^/]+$", name) else f"{name}:latest"


def served_digest(server: Ollama, name: str) -> str | None:
    """The server's digest of a model, or None when it has none of that name."""
    for one in server.request("GET", "/api/tags")["models"] or ():
        if one["name"] == full_name(name):
            return str(one["digest"])
    return None


def remove_model(host: str, name: str, *, digest: str) -> bool:
    """Remove a model that we registered; False when it is gone already.

    Raises ToolError when the server now has another model of that name: it is not ours to remove.
    """
    with Ollama(host) as server:
        held = served_digest(server, name)
        if held is None:
            return False
        if held != digest:
            raise ToolError(
                f"'{name}' is not the model that was registered ({held[:12]}, not {digest[:12]})",
                where=server.host,
                fix=f"look at it, then: ollama rm {name}",
            )
        server.request("DELETE", "/api/delete", {"model": name})
    return True


__all__ = [
    "Era",
    "Receipt",
    "describe",
    "go_template",
    "register_folder",
    "register_model",
    "remove_model",
    "require_mlx_engine",
    "require_server",
]
