"""What was registered: the facts of a GGUF file, and a receipt that a later stage can check."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.gguf_header import read_header
from mlx_ragtune.errors import InputError


@dataclass(frozen=True)
class GgufFacts:
    """``type`` is its quantization (``Q8_0``), ``template`` its chat template, "" for none."""

    type: str
    architecture: str
    template: str


@dataclass(frozen=True)
class Receipt:
    """A registered model. ``digest`` is the server's own; ``gguf_sha256`` is that of the file that was sent.

    On the route ``mlx`` a folder was sent, and ``gguf_sha256`` covers its files.

    ``template_sha256``, ``parameters``, ``renderer``, ``parser`` and ``type`` are what the server reports,
    not what it was asked for; ``system_sha256`` is that of the stored system text, empty without one. ``host`` has no
    userinfo, and is empty for the embedded server.
    """

    name: str
    server: str
    version: str
    digest: str
    gguf_sha256: str
    type: str
    template_sha256: str
    host: str = ""
    route: str = "gguf"
    parameters: dict[str, list[str]] = field(default_factory=dict)
    renderer: str = ""
    parser: str = ""
    capabilities: tuple[str, ...] = ()
    system_sha256: str = ""


def gguf_facts(path: Path) -> GgufFacts:
    """Type, architecture and template of a GGUF file. Raises InputError for a file that is not one."""
    from gguf import LlamaFileType

    header = read_header(path)
    try:
        kind = LlamaFileType(header.get("general.file_type")).name
    except ValueError:
        raise InputError(
            "not a GGUF file that can be served: 'general.file_type' is missing or unknown",
            where=str(path),
            fix="export it again",
        ) from None
    return GgufFacts(
        type=kind.removeprefix("MOSTLY_").removeprefix("ALL_"),
        architecture=str(header.get("general.architecture", "")),
        template=str(header.get("tokenizer.chat_template", "")),
    )


def text_digest(text: str) -> str:
    """sha256 of a text in UTF-8, as hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def embedded_receipt(name: str, gguf: Path) -> Receipt:
    """The receipt for serving a GGUF file by llama.cpp in this process. Raises InputError for a bad file."""
    import xllamacpp

    facts, digest = gguf_facts(gguf), file_digest(gguf)
    return Receipt(
        name=name,
        server="llama.cpp",
        version=f"xllamacpp {xllamacpp.__version__}",
        digest=digest,
        gguf_sha256=digest,
        type=facts.type,
        template_sha256=text_digest(facts.template),
    )
