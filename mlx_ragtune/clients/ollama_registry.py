"""Registering a model with Ollama, checking what the server made of it, and removing it again."""

import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.ollama_address import effective_host, pull_command
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.receipts import GgufFacts, Receipt, gguf_facts, text_digest
from mlx_ragtune.errors import ToolError

Progress = Callable[[int, int], None]
CHUNK_BYTES = 2**20

MLX_TYPES = {"BF16": "", "Q8_0": "int8", "Q4_K_M": "int4"}
"""The names that Ollama's MLX engine has for the nearest types; BF16 is not converted."""
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
    """The version of the Ollama that a recipe's ``host`` means. Raises ToolError when none answers or it is too old."""
    with Ollama(effective_host(host), attempts=2) as server:
        return f"{server.version} ({server.era.name})"


def require_model(host: str, model: str) -> None:
    """Raise ToolError when the Ollama that a recipe's ``host`` means does not answer or does not have the model."""
    with Ollama(effective_host(host), attempts=2) as server:
        _ = server.era
        if full_name(model) not in server.digests():
            raise ToolError(
                f"Ollama does not have the model '{model}'", where=server.host, fix=pull_command(server.host, model)
            )


def register_model(
    host: str,
    name: str,
    gguf: Path,
    *,
    template: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Receipt:
    """Upload a GGUF unless the server has it, create the model, and return what the server made of it.

    ``host`` is a recipe's. An existing model of that name is replaced. ``template`` is a Go template; by default none
    is sent to a server that reads the one inside the file, and an equal one to a server that does not. Raises
    ToolError when the server refuses, or reports another quantization than the file's.
    """
    facts = gguf_facts(gguf)
    with Ollama(effective_host(host)) as server:
        if template is None and not server.era.reads_jinja:
            template = go_template(facts, server.host)
        digest = f"sha256:{file_digest(gguf)}"
        _upload(server, gguf, digest, progress)
        options = {"template": template, "parameters": dict(parameters) if parameters else None}
        server.create(name, {f"{name}.gguf": digest}, **options)
        receipt = describe(server, name, gguf_sha256=digest.removeprefix("sha256:"))
    if receipt.type != facts.type:
        raise ToolError(
            f"Ollama stored '{name}' as {receipt.type}, but the file is {facts.type}",
            where=server.host,
            fix="ragtune register RECIPE --redo",
        )
    return receipt


def require_mlx_engine(host: str, kind: str, *, system: str = platform.system()) -> None:
    """Raise ToolError, with the reason, where Ollama's MLX engine cannot import a model folder at this type."""
    fix = "set 'register.route: gguf'"
    if system != "Darwin":
        raise ToolError(
            f"Ollama's MLX engine runs on macOS only, and this is {system}", where="register.route", fix=fix
        )
    if kind not in MLX_TYPES:
        known = ", ".join(MLX_TYPES)
        raise ToolError(
            f"Ollama's MLX engine has no type like {kind}", where="export.type", fix=f"use one of {known}, or {fix}"
        )
    with Ollama(effective_host(host), attempts=2) as server:
        if not server.era.imports_folders:
            raise ToolError(
                f"Ollama {server.version} does not import model folders; 0.34.1 is the first version that does",
                where=server.host,
                fix=fix,
            )


def register_folder(
    host: str, name: str, folder: Path, *, kind: str, progress: Progress = lambda _done, _total: None
) -> Receipt:
    """Upload a model folder for Ollama's MLX engine, and return what the server made of it.

    ``host`` is a recipe's. Raises ToolError when the server refuses, or gives the model a renderer that ignores
    ``think``.
    """
    files = [file for pattern in FOLDER_FILES for file in sorted(folder.glob(pattern))]
    digests = {file.name: f"sha256:{file_digest(file)}" for file in files}
    total, before = sum(file.stat().st_size for file in files), 0
    with Ollama(effective_host(host)) as server:
        for file in files:
            _upload(server, file, digests[file.name], _progress_of_all(progress, before, total))
            before += file.stat().st_size
        server.create(name, digests, quantize=MLX_TYPES[kind] or None)
        sent = text_digest("".join(f"{file} {digest}\n" for file, digest in digests.items()))
        receipt = replace(describe(server, name, gguf_sha256=sent), route="mlx")
        if receipt.renderer in IGNORE_THINK:
            server.delete(name)
            raise ToolError(
                f"Ollama would render the prompts of '{name}' with '{receipt.renderer}', which ignores 'think'",
                where=server.host,
                fix="set 'register.route: gguf'",
            )
    return receipt


def _progress_of_all(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one file among several, as progress of the whole."""
    return lambda done, _size: progress(before + done, total)


def _upload(server: Ollama, gguf: Path, digest: str, progress: Progress) -> None:
    size = gguf.stat().st_size
    if not server.has_blob(digest):

        def pieces() -> Iterator[bytes]:
            done = 0
            with gguf.open("rb") as stream:
                while piece := stream.read(CHUNK_BYTES):
                    yield piece
                    done += len(piece)
                    progress(done, size)

        server.upload(digest, pieces, size)
        if not server.has_blob(digest):
            raise ToolError(f"Ollama accepted the file but does not have {digest}", where=server.host)
    progress(size, size)


def go_template(facts: GgufFacts, where: str) -> str:
    """The Go template that renders like a ChatML template, for servers that do not read the GGUF's own.

    Checked by rendering one conversation. Raises ToolError for any other template.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    turns = [{"role": role, "content": f"{role} text"} for role in ("system", "user", "assistant", "user")]
    expected = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
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
        "this version of Ollama does not read the chat template inside a GGUF, and the model's is not ChatML",
        where=where,
        fix="update Ollama to 0.30 or later",
    )


def describe(server: Ollama, name: str, *, gguf_sha256: str) -> Receipt:
    """What the server says about a model. Raises ToolError when it has none of that name."""
    shown, digest = server.show(name), server.digests().get(full_name(name))
    if digest is None:
        raise ToolError(f"Ollama does not list the model '{name}'", where=server.host, fix="see 'ollama list'")
    return Receipt(
        name=name,
        server="ollama",
        version=server.version,
        digest=digest,
        gguf_sha256=gguf_sha256,
        type=shown.details.quantization_level,
        template_sha256=text_digest(shown.template),
        host=server.host,
        parameters=_parameters(shown.parameters),
        renderer=shown.renderer,
        parser=shown.parser,
        capabilities=tuple(sorted(shown.capabilities or ())),
    )


def _parameters(text: str) -> dict[str, list[str]]:
    """``stop "<|im_end|>"`` lines as lists by name."""
    parameters: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, _, value = line.strip().partition(" ")
        if key:
            parameters.setdefault(key, []).append(value.strip())
    return {key: sorted(values) for key, values in sorted(parameters.items())}


def full_name(name: str) -> str:
    """The name with its tag, as the server lists it."""
    return name if re.search(r":[^/]+$", name) else f"{name}:latest"


def remove_model(host: str, name: str, *, digest: str) -> bool:
    """Remove a model that ragtune registered at exactly this host; False when it is gone already.

    Raises ToolError when the server now has another model of that name, which is left alone.
    """
    with Ollama(host) as server:
        served = server.digests().get(full_name(name))
        if served is None:
            return False
        if served != digest:
            raise ToolError(
                f"'{name}' is not the model that was registered ({served[:12]}, not {digest[:12]})",
                where=server.host,
                fix=f"see what it is with 'ollama show {name}'; remove it with 'ollama rm {name}'",
            )
        server.delete(name)
    return True
