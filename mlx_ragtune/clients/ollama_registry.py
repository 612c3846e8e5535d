"""Registering a model with Ollama, checking what the server made of it, and removing it again."""

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.ollama_address import effective_host, ollama_command, pull_command
from mlx_ragtune.clients.ollama_card import NO_THINKING, Card, stop_words
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_templates import check_talks, framed_template, go_template, require_template
from mlx_ragtune.clients.ollama_versions import DEVELOPMENT
from mlx_ragtune.clients.receipts import GgufFacts, Receipt, gguf_facts, text_digest
from mlx_ragtune.clients.registered import Presence, Registered, find_named
from mlx_ragtune.errors import ToolError
from mlx_ragtune.models.vocabulary import stored_template

Progress = Callable[[int, int], None]
CHUNK_BYTES = 2**20

MLX_TYPES = {"BF16": "", "Q8_0": "int8", "Q4_K_M": "int4"}
"""The names that Ollama's MLX engine has for the nearest types; BF16 is not converted."""
FOLDER_FILES = ("*.safetensors", "*.json", "*.jinja")
CHATML_STOP = ("<|im_start|>", "<|im_end|>")
"""What Ollama itself stores for a template that it recognizes as ChatML."""
IGNORE_THINK = frozenset({"qwen3-coder"})


def require_server(host: str, *, development_build: bool = False) -> str:
    """The version of the Ollama that a recipe's ``host`` means. Raises ToolError when none answers or it is too old."""
    with Ollama(effective_host(host), attempts=2, development_build=development_build) as server:
        return f"{server.version} ({server.era.name})"


def require_model(host: str, model: str) -> None:
    """Raise ToolError when the Ollama that a recipe's ``host`` means does not answer or does not have the model."""
    with Ollama(effective_host(host), attempts=2) as server:
        _ = server.era
        if find_named(server.digests(), model) is None:
            raise ToolError(
                f"Ollama does not have the model '{model}'", where=server.host, fix=pull_command(server.host, model)
            )


@dataclass(frozen=True)
class Registrar:
    """How models are registered: which ones may be replaced, and who hears of it.

    A model of the same name is replaced when ``registered`` has its digest, or when ``replace`` says so. Each new
    digest is added to ``registered`` before it gets its name.
    """

    registered: Registered | None = None
    replace: bool = False
    development_build: bool = False
    progress: Progress = lambda _done, _total: None
    say: Callable[[str], None] = lambda _text: None

    def open(self, host: str) -> Ollama:
        """The server that a recipe's ``host`` means."""
        return Ollama(effective_host(host), development_build=self.development_build)

    def require_ours(self, server: Ollama, name: str) -> None:
        """Raise ToolError when the server has a model of this name that must not be replaced."""
        if digest := find_named(server.digests(), name):
            self._require_ours(server, name, digest)

    def _require_ours(self, server: Ollama, name: str, digest: str) -> None:
        if self.replace or (self.registered is not None and self.registered.has(name, digest)):
            return
        keep = ollama_command(server.host, f"cp {name} NEW_NAME")
        raise ToolError(
            f"Ollama has a model named '{name}' ({digest[:12]}) that was not registered from this runs folder",
            where=server.host,
            fix=f"set another 'register.name', keep a copy of it ({keep}), or add --replace to the same command",
        )

    def name_it(self, server: Ollama, aside: str, name: str) -> None:
        """Give the model that was made as ``aside`` its name, unless the server has that very model already."""
        digests = server.digests()
        digest, before = digests[aside], find_named(digests, name)
        try:
            if before is not None and before != digest:
                self._require_ours(server, name, before)
            if self.registered is not None:
                self.registered.add(server.host, name, digest)
            if before != digest:
                if before is not None:
                    self.say(f"replacing '{name}' ({before[:12]}) at {server.host}")
                    server.delete(name)  # its layers go too, which a copy over it would leave behind
                server.copy(aside, name)
        finally:
            server.delete(aside)


def require_names(host: str, names: Iterable[str], registrar: Registrar) -> None:
    """Raise ToolError when a name is taken, at the Ollama that a recipe's ``host`` means, by a model not ours."""
    with registrar.open(host) as server:
        for name in names:
            registrar.require_ours(server, name)


def _aside(name: str) -> str:
    """The name of a model while it is made."""
    return f"{name.partition(':')[0]}:ragtune-unfinished"


def register_model(
    host: str,
    name: str,
    gguf: Path,
    *,
    card: Card | None = None,
    template: str | None = None,
    registrar: Registrar = Registrar(),
) -> Receipt:
    """Upload a GGUF unless the server has it, create the model, and return what the server made of it.

    ``host`` is a recipe's. ``card`` is what the model has of its own. ``template`` is a Go template; by default none
    is sent to a server that uses the one inside the file, and an equal one, with the card's frame, to a server that
    does not. The model is made under another name first, so that
    a failure leaves what had the name. Raises ToolError when the server refuses, reports another quantization than
    the file's, renders prompts differently, or has a model of that name that is not ours.
    """
    facts = gguf_facts(gguf)
    with registrar.open(host) as server:
        registrar.require_ours(server, name)
        digest, aside = f"sha256:{file_digest(gguf)}", _aside(name)
        _upload(server, gguf, digest, registrar.progress)
        described, sent = digest.removeprefix("sha256:"), template
        if template is None and not server.era.reads_jinja:
            sent = _framed(_own_template(facts, server), card)

        def create() -> Receipt:
            server.create(aside, {f"{name}.gguf": digest}, template=sent, **_stored(card, facts.template))
            return replace(describe(server, aside, gguf_sha256=described), name=name)

        try:
            receipt = create()
            if sent is None and receipt.template_sha256 != text_digest(facts.template):
                sent = _framed(go_template(facts.template), card)  # the server put one of its own in its place
                receipt = create() if sent is not None else receipt
            _require_type(receipt, facts, server)
            _require_system(receipt, card, server)
            _check_render(server, aside, receipt, facts, registrar.say, card=card if template is None else None)
        except BaseException:
            with suppress(ToolError):
                server.delete(aside)
            raise
        registrar.name_it(server, aside, name)
    return receipt


def _own_template(facts: GgufFacts, server: Ollama) -> str | None:
    """The template for a server that does not read the file's; None at a development build, which may read it."""
    if server.era is DEVELOPMENT:
        return go_template(facts.template)
    return require_template(facts.template, server.host)


def _framed(template: str | None, card: Card | None) -> str | None:
    return template if template is None or card is None else framed_template(template, card)


def _stored(card: Card | None, template: str) -> dict[str, Any]:
    """What is created with a model beside its file and template. Stop words of the server's own choice are kept."""
    if card is None:
        return {}
    stop = stop_words(template)
    if go_template(template) is not None:
        stop = CHATML_STOP
    parameters = {**card.options, **({"stop": list(stop)} if stop else {})}
    thinking = [] if card.think or "enable_thinking" not in template else [NO_THINKING]
    return {"system": card.system, "parameters": parameters, "license": [*card.texts, *thinking]}


def _require_system(receipt: Receipt, card: Card | None, server: Ollama) -> None:
    if card is not None and receipt.system_sha256 != text_digest(card.system):
        raise ToolError(
            f"Ollama did not store the system text of '{receipt.name}'",
            where=server.host,
            fix="update Ollama to 0.30 or later",
        )


def _require_type(receipt: Receipt, facts: GgufFacts, server: Ollama) -> None:
    if receipt.type != facts.type:
        raise ToolError(
            f"Ollama stored '{receipt.name}' as {receipt.type}, but the file is {facts.type}",
            where=server.host,
            fix="see the server's log, then run the same command again",
        )


def _check_render(
    server: Ollama, aside: str, receipt: Receipt, facts: GgufFacts, say: Callable[[str], None], *, card: Card | None
) -> None:
    """Compare served prompts with the file's template, where the server uses another one.

    Every prompt of an evaluation has a system turn and is compared again before it is answered. Talks without one
    are what others may send, so a difference there is only said.
    """
    if receipt.template_sha256 == text_digest(facts.template):
        return
    if go_template(facts.template) is None:
        say(f"'{receipt.name}': Ollama uses a chat template of its own; prompts are compared when questions are asked")
        return
    for difference in check_talks(server, aside, facts.template, card=card):
        say(f"'{receipt.name}': Ollama renders a talk differently from the file's chat template: {difference}")
    server.unload(aside)


def require_mlx_engine(
    host: str, kind: str, *, system: str = platform.system(), development_build: bool = False
) -> None:
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
    with Ollama(effective_host(host), attempts=2, development_build=development_build) as server:
        if not server.era.imports_folders:
            raise ToolError(
                f"Ollama {server.version} does not import model folders; 0.34.1 is the first version that does",
                where=server.host,
                fix=fix,
            )


def register_folder(
    host: str,
    name: str,
    folder: Path,
    *,
    kind: str,
    card: Card | None = None,
    registrar: Registrar = Registrar(),
) -> Receipt:
    """Upload a model folder for Ollama's MLX engine, and return what the server made of it.

    ``host`` is a recipe's; ``card`` is what the model has of its own. Raises ToolError when the server refuses, gives
    the model a renderer that ignores ``think``, or has a model of that name that is not ours.
    """
    files = [file for pattern in FOLDER_FILES for file in sorted(folder.glob(pattern))]
    digests = {file.name: f"sha256:{file_digest(file)}" for file in files}
    total, before, aside = sum(file.stat().st_size for file in files), 0, _aside(name)
    with registrar.open(host) as server:
        registrar.require_ours(server, name)
        for file in files:
            _upload(server, file, digests[file.name], _progress_of_all(registrar.progress, before, total))
            before += file.stat().st_size
        stored = _stored(card, stored_template(folder))
        server.create(aside, digests, quantize=MLX_TYPES[kind] or None, **stored)
        sent = text_digest("".join(f"{file} {digest}\n" for file, digest in digests.items()))
        receipt = replace(describe(server, aside, gguf_sha256=sent), name=name, route="mlx")
        if receipt.renderer in IGNORE_THINK:
            server.delete(aside)
            raise ToolError(
                f"Ollama would render the prompts of '{name}' with '{receipt.renderer}', which ignores 'think'",
                where=server.host,
                fix="set 'register.route: gguf'",
            )
        registrar.name_it(server, aside, name)
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


def describe(server: Ollama, name: str, *, gguf_sha256: str) -> Receipt:
    """What the server says about a model. Raises ToolError when it has none of that name."""
    shown, digest = server.show(name), find_named(server.digests(), name)
    if digest is None:
        raise ToolError(
            f"Ollama does not list the model '{name}'",
            where=server.host,
            fix=f"see: {ollama_command(server.host, 'list')}",
        )
    return Receipt(
        name=name,
        server="ollama",
        version=server.version,
        digest=digest,
        gguf_sha256=gguf_sha256,
        type=shown.details.quantization_level,
        template_sha256=text_digest(shown.template),
        system_sha256=text_digest(shown.system) if shown.system else "",
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


def remove_model(host: str, name: str, *, digest: str) -> Presence:
    """Remove a model that ragtune registered at exactly this host; returns where it was before.

    ``removed``: it was gone already. ``replaced``: the server has another model of that name, which is left alone.
    Raises ToolError when the server does not answer.
    """
    with Ollama(host) as server:
        served = find_named(server.digests(), name)
        if served is None:
            return "removed"
        if served != digest:
            return "replaced"
        server.delete(name)
    return "present"
