"""What the stand-in keeps: blobs and models on disk, templates as Ollama chooses them, engines by model."""

import hashlib
import json
import math
import re
import threading
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFReader
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rapidfuzz.distance import Levenshtein

from mlx_ragtune.clients.ollama_versions import Era
from mlx_ragtune.clients.receipts import gguf_facts
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from tests.clients import go_template

CHATML_GO = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_TURN = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
_LAST = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_SYSTEM = (
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
)
CHATML_JINJA = tuple("{% for message in messages %}" + system + _TURN + _LAST for system in ("", _SYSTEM))
CHATML_DISTANCE = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?")


class ApiError(Exception):
    """An answer that is an error: its status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Model:
    """A created model. ``template`` is a Go template, or None where the GGUF's own jinja is in force."""

    name: str
    gguf: str
    template: str | None
    jinja: str
    quantization: str
    capabilities: list[str]
    system: str = ""
    license: list[str] = field(default_factory=list)
    parent: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    modified_at: str = ""

    @property
    def digest(self) -> str:
        """Changes with everything that makes the model."""
        about = {key: value for key, value in asdict(self).items() if key not in ("name", "modified_at")}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def render(self, messages: list[dict[str, str]], think: bool | None) -> str:
        """The prompt as the server of this model's era builds it."""
        if self.system and all(turn["role"] != "system" for turn in messages):
            messages = [{"role": "system", "content": self.system}, *messages]
        if self.template is not None:
            return go_template.render(self.template, messages, think=think)
        jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self.jinja)
        # native path: thinking is on unless it is said to be off
        return jinja.render(messages=messages, add_generation_prompt=True, enable_thinking=think is not False)


def now() -> str:
    """The time as Ollama writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())


def full_name(name: str) -> str:
    """The name with its tag."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def _capabilities(text: str) -> set[str]:
    tools = {"tools"} if "tools" in text or ".Tools" in text else set()
    return tools | ({"thinking"} if re.search(r"enable_thinking|\.Think|<think>", text) else set())


class Store:
    """Blobs and models in a folder; a second server on the same folder has the same models."""

    def __init__(self, home: Path, era: Era) -> None:
        self.era = era
        self.blobs, self._models = home / "blobs", home / "manifests"
        for folder in (self.blobs, self._models):
            folder.mkdir(parents=True, exist_ok=True)

    def blob(self, digest: str) -> Path:
        """Where a blob is, or would be. Raises ApiError for a name that is no digest."""
        if not re.fullmatch(r"sha256[:-][0-9a-f]{64}", digest):
            raise ApiError(400, "invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def models(self) -> list[Model]:
        """All models, the newest first."""
        files = sorted(self._models.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [Model(**json.loads(file.read_text())) for file in files]

    def _file(self, name: str) -> Path:
        """Names that differ in case only are one name, as it was written first."""
        file = self._models / (re.sub(r"[^A-Za-z0-9._-]", "+", full_name(name)) + ".json")
        return next((known for known in self._models.iterdir() if known.name.casefold() == file.name.casefold()), file)

    def get(self, name: str, message: str) -> Model:
        """The model of that name. Raises ApiError 404 with ``message``."""
        file = self._file(name)
        if not file.exists():
            raise ApiError(404, message)
        return Model(**json.loads(file.read_text()))

    def put(self, model: Model) -> None:
        """Keep a model, replacing one of its name."""
        file = self._file(model.name)
        name = json.loads(file.read_text())["name"] if file.exists() else full_name(model.name)
        model.name, model.modified_at = name, now()
        file.write_text(json.dumps(asdict(model)))

    def delete(self, name: str) -> None:
        """Forget a model. Raises ApiError 404."""
        self.get(name, f"model '{name}' not found")
        self._file(name).unlink()

    def build(self, body: dict[str, Any]) -> tuple[Model, list[str]]:
        """The model that a create request describes, and what the server says while it makes it."""
        if body.get("from"):
            source = self.get(body["from"], f"model '{body['from']}' not found")
            model = Model(**{**asdict(source), "name": body["model"], "parent": source.name})
            said = [f"using existing layer sha256:{model.gguf}"]
        else:
            model, said = self._from_file(body)
        if "template" in body:
            try:
                go_template.check(body["template"])
            except go_template.GoTemplateError as error:
                raise ApiError(400, f"template error: {error}") from None
            richer = _capabilities(model.jinja) - _capabilities(body["template"])
            if not (self.era.reads_jinja and richer):
                model.template = body["template"]
                model.capabilities = [*sorted(_capabilities(body["template"])), "completion"]
        model.system = body.get("system") or model.system
        given = body.get("license") or []
        model.license = [*model.license, *([given] if isinstance(given, str) else given)]
        model.parameters = {**model.parameters, **(body.get("parameters") or {})}
        return model, [*said, "writing manifest"]

    def _from_file(self, body: dict[str, Any]) -> tuple[Model, list[str]]:
        (digest,) = body["files"].values()
        blob = self.blob(digest)
        if not blob.exists():
            raise ApiError(500, f"open $OLLAMA_MODELS/blobs/{blob.name}: no such file or directory")
        with blob.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise ApiError(400, "supplied file was not in GGUF format")
        facts = gguf_facts(blob)
        kind = self._quantized(facts.type, body.get("quantize"))
        model = Model(body["model"], digest.removeprefix("sha256:"), None, facts.template, kind, [])
        said = ["parsing GGUF", "verifying conversion"]
        distance = min(Levenshtein.distance(template, facts.template) for template in CHATML_JINJA)
        if distance < CHATML_DISTANCE:
            model.template = CHATML_GO
            model.parameters["stop"] = ["<|im_start|>", "<|im_end|>"]
            said.append("using autodetected template chatml")
        elif not self.era.reads_jinja:
            model.template = "{{ .Prompt }}"
        known = model.template if model.template is not None else facts.template
        model.capabilities = [*sorted(_capabilities(known), reverse=True), "completion"]
        return model, [*said, f"creating new layer sha256:{model.digest}"]

    def _quantized(self, kind: str, wanted: str | None) -> str:
        """The name of the new type; the stand-in keeps the bytes."""
        if not wanted:
            return kind
        if self.era.imports_folders:
            raise ApiError(400, "quantizing a GGUF is not supported: quantize before importing")
        if kind not in ("F32", "F16", "BF16"):
            raise ApiError(500, "quantization is only supported for F16, BF16 and F32 models")
        supported = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
        written = wanted.upper().replace("_K_", "_K_")
        if written not in supported:
            shown = f"{written} - supported types are {', '.join(supported)}"
            raise ApiError(500, f"unsupported quantization type {shown}")
        return written

    def details(self, model: Model, **more: Any) -> dict[str, Any]:
        """The ``details`` object of several answers."""
        fields, tensors = _contents(self.blob(f"sha256:{model.gguf}"))
        family = fields["general.architecture"]
        count = sum(math.prod(tensor["shape"]) for tensor in tensors)
        return {
            "parent_model": model.parent,
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": f"{count / 1e6:.2f}M",
            "quantization_level": model.quantization,
            **{key: fields[f"{family}.{key}"] for key in more},
        }

    def show(self, model: Model) -> dict[str, Any]:
        """The answer of ``/api/show``."""
        fields, tensors = _contents(self.blob(f"sha256:{model.gguf}"))
        lines = [
            f"{key} {json.dumps(value)}"
            for key, values in sorted(model.parameters.items())
            for value in (values if isinstance(values, list) else [values])
        ]
        answer = {
            "modelfile": f'# Modelfile generated by "ollama show"\nFROM {self.blob(f"sha256:{model.gguf}")}\n',
            "parameters": "\n".join(lines),
            "template": model.jinja if model.template is None else model.template,
            "details": self.details(model),
            "model_info": fields,
            "tensors": tensors,
            "capabilities": model.capabilities,
            "modified_at": model.modified_at,
            "system": model.system,
            "license": "\n".join(model.license),
        }
        optional = ("parameters", "system", "license")
        return {key: value for key, value in answer.items() if value or key not in optional}


@cache
def _contents(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A GGUF's fields (lists as None, without the template) and tensors; blobs never change."""
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    fields.pop("tokenizer.chat_template", None)
    tensors = [
        {
            "name": tensor.name,
            "type": GGMLQuantizationType(tensor.tensor_type).name,
            "shape": [int(size) for size in tensor.shape],
        }
        for tensor in reader.tensors
    ]
    return {name: None if isinstance(value, list) else value for name, value in fields.items()}, tensors


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    engine: LlamaCppServer
    context_tokens: int


class Engines:
    """One real engine for each loaded model; another context size loads it again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[str, Loaded] = {}
        self.lock = threading.RLock()

    def get(self, model: Model, context_tokens: int) -> tuple[LlamaCppServer, int]:
        """The engine and the nanoseconds that loading took."""
        started = time.perf_counter_ns()
        with self.lock:
            held = self._loaded.get(model.name)
            if held is None or (held.model.digest, held.context_tokens) != (model.digest, context_tokens):
                self.unload(model.name)
                path = self._store.blob(f"sha256:{model.gguf}")
                engine = LlamaCppServer(path, context_tokens=context_tokens).__enter__()
                held = self._loaded[model.name] = Loaded(model, engine, context_tokens)
            return held.engine, time.perf_counter_ns() - started

    def unload(self, name: str) -> None:
        """Free a model, if it is loaded."""
        with self.lock:
            held = self._loaded.pop(full_name(name), None)
            if held is not None:
                held.engine.__exit__()

    def unload_all(self) -> None:
        """Free all models."""
        for name in list(self._loaded):
            self.unload(name)

    def loaded(self) -> list[Loaded]:
        """What is in memory."""
        return list(self._loaded.values())
