"""A tokenizer folder as GGUF metadata, with the chat template inside.

Two families: byte-level BPE (``gpt2`` in GGUF: Llama 3, Qwen, SmolLM) and SentencePiece-like BPE with byte
fallback (``llama`` in GGUF: Gemma, Mistral), which llama.cpp merges by score instead of by a list of merges.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gguf import TokenType
from tokenizers import Tokenizer

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.pretokenizer import pretokenizer_name
from mlx_ragtune.models.sentencepiece_scores import SPACE, model_pieces, scores_of_merges

_NAMES = (("bos", "bos_token"), ("eos", "eos_token"), ("pad", "pad_token"), ("unk", "unk_token"))
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0


@dataclass(frozen=True)
class Vocabulary:
    """What ``tokenizer.ggml.*`` and ``tokenizer.chat_template`` hold.

    ``scores`` are there for ``llama`` and ``merges`` for ``gpt2``; the other is empty. ``specials`` are ids
    of bos, eos, pad and unk, those there are. ``add_bos``: encoding puts bos in front.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    specials: dict[str, int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    template: str


def chat_template(folder: Path) -> str:
    """The template, from ``chat_template.jinja`` or the tokenizer's settings. Raises InputError for none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if not template:
        raise InputError("no chat template", where=str(folder), fix="choose an instruction-tuned base")
    return str(template)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises InputError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{path.name}' is missing", where=str(path.parent), fix="fetch the model again") from None
    except (OSError, ValueError) as error:
        raise InputError(f"not JSON: {error}", where=str(path), fix="fetch the model again") from None
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=str(path), fix="fetch the model again")
    return value


def _special_ids(folder: Path, ids: dict[str, int], size: int) -> dict[str, int]:
    """bos, eos, pad and unk ids, as the tokenizer's settings name them, else as the model's."""
    settings, config = read_json(folder / "tokenizer_config.json"), read_json(folder / "config.json")
    found = {}
    for short, name in _NAMES:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        number = ids.get(token) if token else config.get(f"{name}_id")
        number = number[0] if isinstance(number, list) else number
        if number is not None and not 0 <= int(number) < size:
            raise InputError(f"{name}_id {number} is past the vocabulary of {size}", where=str(folder))
        if number is not None:
            found[short] = int(number)
    if "eos" not in found:
        raise InputError("no eos token: an answer would never end", where=str(folder), fix="choose another base")
    return found


def looks_special(token: str) -> bool:
    """Whether llama.cpp's converter takes an added token for a control token whatever its flag says."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<｜") and token.endswith("｜>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )


def _listed(data: dict[str, Any], size: int, folder: Path) -> tuple[list[str], list[int]]:
    """Every id's text and type; ids that the tokenizer does not have are unused ``[PADi]``."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    try:
        for token, number in data["model"]["vocab"].items():
            tokens[number], types[number] = token, int(TokenType.NORMAL)
        for added in data.get("added_tokens") or ():
            number, control = added["id"], added["special"] or looks_special(added["content"])
            tokens[number] = added["content"] if control else added["content"].replace(SPACE, " ")
            types[number] = int(TokenType.CONTROL if control else TokenType.USER_DEFINED)
    except IndexError:
        raise InputError(
            f"the tokenizer has ids past the model's vocabulary of {size}",
            where=str(folder),
            fix="fetch the model again: tokenizer and weights do not belong together",
        ) from None
    return tokens, types


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a model folder, padded to the model's size with unused tokens.

    Raises InputError for a tokenizer that llama.cpp would split differently, or a folder without template.
    """
    file = folder / "tokenizer.json"
    data, size = read_json(file), int(read_json(folder / "config.json")["vocab_size"])
    model = data.get("model") or {}
    if model.get("type") != "BPE":
        raise InputError(
            f"a {model.get('type')} tokenizer; only BPE is exported",
            where=str(file),
            fix="choose a base of the Llama 3, Qwen 2/3, SmolLM, Gemma 3 or Mistral family",
        )
    tokens, types = _listed(data, size, folder)
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer.from_file(str(file))
    bare, framed = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    pairs = [one.split(" ", 1) if isinstance(one, str) else one for one in model["merges"]]
    by_score = bool(model.get("byte_fallback"))
    if by_score:
        _mark_bytes(tokens, types, model.get("unk_token"))
    return Vocabulary(
        model="llama" if by_score else "gpt2",
        pre="default" if by_score else pretokenizer_name(file),
        tokens=tokens,
        types=types,
        merges=[] if by_score else [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in pairs],
        scores=_scores(folder, tokens, types, pairs) if by_score else [],
        specials=_special_ids(folder, ids, size),
        add_bos=framed[: len(framed) - len(bare)] != [] and framed[0] != bare[0],
        add_eos=framed[-1] != bare[-1],
        add_space_prefix=by_score and (tokenizer.id_to_token(bare[0]) or "").startswith(SPACE),
        template=chat_template(folder),
    )


def _mark_bytes(tokens: list[str], types: list[int], unknown: str | None) -> None:
    for number, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[number] = int(TokenType.BYTE)
        elif token == unknown:
            types[number] = int(TokenType.UNKNOWN)


def _scores(folder: Path, tokens: list[str], types: list[int], merges: list[list[str]]) -> list[float]:
    """Scores as ``tokenizer.model`` has them, else by the rank of the merge that makes the token."""
    if (folder / "tokenizer.model").is_file():
        known = model_pieces(folder / "tokenizer.model")
    else:
        known = scores_of_merges(merges)
    added = (TokenType.CONTROL, TokenType.USER_DEFINED)
    return [
        _ADDED_SCORE if kind in added else _UNUSED_SCORE if kind == TokenType.UNUSED else known.get(token, 0.0)
        for token, kind in zip(tokens, types, strict=True)
    ]
