"""A tokenizer folder as GGUF metadata, with the chat template inside."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.pretokenizer import pretokenizer_name


@dataclass(frozen=True)
class Vocabulary:
    """What ``tokenizer.ggml.*`` and ``tokenizer.chat_template`` hold."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    specials: dict[str, int]
    template: str


def chat_template(folder: Path) -> str:
    """The template, from ``chat_template.jinja`` or the tokenizer's settings. Raises InputError for none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    settings = _json(folder / "tokenizer_config.json")
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if not template:
        raise InputError("no chat template", where=str(folder), fix="choose an instruction-tuned base")
    return str(template)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{path.name}' is missing", where=str(path.parent), fix="fetch the model again") from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=str(path), fix="fetch the model again") from None
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=str(path), fix="fetch the model again")
    return value


def _special_ids(folder: Path, ids: dict[str, int]) -> dict[str, int]:
    """bos, eos, pad and unk ids, as the tokenizer's settings name them, else as the model's."""
    settings, config = _json(folder / "tokenizer_config.json"), _json(folder / "config.json")
    found = {}
    for short, name in (
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("pad", "pad_token"),
        ("unk", "unk_token"),
    ):
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        number = ids.get(token) if token else config.get(f"{name}_id")
        number = number[0] if isinstance(number, list) else number
        if number is not None:
            found[short] = int(number)
    return found


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a byte-level BPE tokenizer, padded to the model's size with unused tokens."""
    data, config = _json(folder / "tokenizer.json"), _json(folder / "config.json")
    model = data.get("model") or {}
    if model.get("type") != "BPE":
        raise InputError(
            f"a {model.get('type')} tokenizer; only byte-level BPE is exported",
            where=str(folder / "tokenizer.json"),
            fix="choose a base of the Llama 3, Qwen 2/3 or SmolLM family",
        )
    ids: dict[str, int] = dict(model["vocab"])
    kinds = dict.fromkeys(ids.values(), TokenType.NORMAL)
    for added in data.get("added_tokens", ()):
        ids[added["content"]] = added["id"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    size = int(config["vocab_size"])
    if max(kinds) >= size:
        raise InputError(
            f"token id {max(kinds)} is past the model's vocabulary of {size}",
            where=str(folder),
            fix="fetch it again",
        )
    names = {number: token for token, number in ids.items()}
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    return Vocabulary(
        pre=pretokenizer_name(folder / "tokenizer.json"),
        tokens=[names.get(number, f"[PAD{number}]") for number in range(size)],
        types=[int(kinds.get(number, TokenType.UNUSED)) for number in range(size)],
        merges=merges,
        specials=_special_ids(folder, ids),
        template=chat_template(folder),
    )
