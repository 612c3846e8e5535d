"""The tokenizer of a model folder as GGUF metadata, including the chat template.

Three families: byte-level BPE (``gpt2`` in GGUF: Llama 3, Qwen, SmolLM); SentencePiece-like BPE with byte fallback
(``llama`` in GGUF: Gemma 3, Mistral), which llama.cpp merges by score instead of by a list of merges; and the same by
a list of merges (``gemma4``).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gguf import TokenType
from tokenizers import Tokenizer

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import flat_config
from mlx_ragtune.models.pretokenizer import pretokenizer_name
from mlx_ragtune.models.sentencepiece_scores import SPACE, model_pieces, scores_of_merges
from mlx_ragtune.models.template_dates import frozen
from mlx_ragtune.models.unsupported import check_dimensions

_NAMES = (("bos", "bos_token"), ("eos", "eos_token"), ("pad", "pad_token"), ("unk", "unk_token"))
_VISIBLE = (
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>',
)  # fmt: skip
"""Special tokens of Gemma 4 that llama.cpp keeps in the text of an answer, from which it takes thoughts and calls."""
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0


@dataclass(frozen=True)
class Vocabulary:
    """The values of ``tokenizer.ggml.*`` and ``tokenizer.chat_template``.

    ``tokens`` and ``types`` have one entry per id of the model's vocabulary. ``scores`` is empty for ``gpt2``,
    ``merges`` for ``llama``. ``specials`` holds the ids of bos, eos, pad and unk that exist, for ``gemma4`` of mask
    too. ``add_bos``: encoding adds bos at the start, which llama.cpp always does for ``gemma4``.
    """

    model: Literal["gpt2", "llama", "gemma4"]
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
    """The template with its date frozen, as all that is rendered and exported has it. Raises as ``stored_template``."""
    return frozen(stored_template(folder))


def stored_template(folder: Path) -> str:
    """The template in ``chat_template.jinja`` or ``tokenizer_config.json``. Raises InputError if there is none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read it: {error}", where=str(file), fix="fetch the model again") from None
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if not template or not isinstance(template, str):
        raise InputError("no chat template", where=str(folder), fix="choose an instruction-tuned base")
    return template


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises InputError, with the file, for anything else (NaN included)."""
    fix = "fetch the model again"
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise InputError(f"'{path.name}' is missing", where=str(path.parent), fix=fix) from None
    except RecursionError:
        raise InputError("nested too deeply", where=str(path), fix=fix) from None
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(path), fix=fix) from None
    except ValueError as error:
        raise InputError(f"not valid JSON: {error}", where=str(path), fix=fix) from None
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=str(path), fix=fix)
    return value


def _special_ids(
    folder: Path, ids: dict[str, int], size: int, names: tuple[tuple[str, str], ...] = _NAMES
) -> dict[str, int]:
    """Ids of bos, eos, pad and unk, or of others: by ``tokenizer_config.json``, otherwise by ``config.json``."""
    settings, config = read_json(folder / "tokenizer_config.json"), flat_config(read_json(folder / "config.json"))
    specials = {}
    for short, name in names:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        number = ids.get(token) if isinstance(token, str) and token else config.get(f"{name}_id")
        number = number[0] if isinstance(number, list) and number else number
        if number is None or number == []:
            continue
        if not isinstance(number, int) or not 0 <= number < size:
            raise InputError(
                f"{name}_id {number!r:.40} is outside the vocabulary of {size}",
                where=str(folder),
                fix="fetch the model again",
            )
        specials[short] = number
    if "eos" not in specials:
        raise InputError("no eos token: answers would never end", where=str(folder), fix="choose another base")
    return specials


def looks_special(token: str) -> bool:
    """Whether llama.cpp's converter makes an added token a control token, whatever its flag (conversion/base.py)."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<｜") and token.endswith("｜>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )


def _tokens_and_types(data: dict[str, Any], size: int, folder: Path) -> tuple[list[str], list[int]]:
    """Text and type of every id; ids that the tokenizer lacks become unused ``[PADi]``, as in llama.cpp."""
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
            f"the tokenizer has ids beyond the model's vocabulary of {size}",
            where=str(folder),
            fix="fetch the model again: tokenizer and weights do not belong together",
        ) from None
    return tokens, types


def _gemma4_types(data: dict[str, Any], types: list[int]) -> None:
    """Mark the ids as llama.cpp's converter does for Gemma 4: only special tokens of its vocabulary are set apart."""
    vocabulary = set(data["model"]["vocab"].values())
    for added in data.get("added_tokens") or ():
        if added["content"] in _VISIBLE:
            types[added["id"]] = int(TokenType.USER_DEFINED)
        elif added["special"]:
            types[added["id"]] = int(TokenType.CONTROL)
        else:
            types[added["id"]] = int(TokenType.NORMAL if added["id"] in vocabulary else TokenType.USER_DEFINED)


def _read_tokenizer(file: Path) -> tuple[dict[str, Any], Tokenizer]:
    """``tokenizer.json`` as JSON and as a working tokenizer. Raises InputError if it is not BPE, or damaged."""
    data = read_json(file)
    model = data.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind != "BPE":
        raise InputError(
            f"the tokenizer's type is {kind!r:.40}; only BPE can be exported",
            where=str(file),
            fix="choose a base of the Llama 3, Qwen 2/3, SmolLM, Gemma 3 or Mistral family",
        )
    try:
        return data, Tokenizer.from_file(str(file))
    except Exception as error:
        raise InputError(f"not a tokenizer: {error!s:.200}", where=str(file), fix="fetch the model again") from None


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a model folder, padded to the model's size with unused tokens.

    Raises InputError for a damaged tokenizer, one that llama.cpp would split differently, or no chat template.
    """
    file = folder / "tokenizer.json"
    data, tokenizer = _read_tokenizer(file)
    config = flat_config(read_json(folder / "config.json"))
    check_dimensions(config, where=folder / "config.json")
    model, size = data["model"], config["vocab_size"]
    tokens, types = _tokens_and_types(data, size, folder)
    ids = {token: number for number, token in enumerate(tokens)}
    bare, framed = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    if not bare:
        raise InputError("the tokenizer has no token for 'a'", where=str(file), fix="fetch the model again")
    pairs = _pairs(model)
    if config["model_type"] == gemma4.MODEL_TYPE:
        return _gemma4_vocabulary(folder, data, tokens, types)
    by_score = bool(model.get("byte_fallback"))
    if by_score:
        _mark_bytes(tokens, types, model.get("unk_token"))
    return Vocabulary(
        model="llama" if by_score else "gpt2",
        pre="default" if by_score else pretokenizer_name(file),
        tokens=tokens,
        types=types,
        merges=[] if by_score else _joined(pairs),
        scores=_scores(folder, tokens, types, pairs) if by_score else [],
        specials=_special_ids(folder, ids, size),
        add_bos=framed[: len(framed) - len(bare)] != [] and framed[0] != bare[0],
        add_eos=framed[-1] != bare[-1],
        add_space_prefix=by_score and (tokenizer.id_to_token(bare[0]) or "").startswith(SPACE),
        template=chat_template(folder),
    )


def _pairs(model: dict[str, Any]) -> list[list[str]]:
    return [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]


def _joined(pairs: list[list[str]]) -> list[str]:
    return [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in pairs]


def _gemma4_vocabulary(folder: Path, data: dict[str, Any], tokens: list[str], types: list[int]) -> Vocabulary:
    """The vocabulary of a Gemma 4. Raises InputError for another kind of tokenizer and for one without a BOS."""
    model, ids = data["model"], {token: number for number, token in enumerate(tokens)}
    if not model.get("byte_fallback"):
        raise InputError(
            "the tokenizer has no byte fallback, as that of Gemma 4 has", where=str(folder), fix="fetch the model again"
        )
    for added in data.get("added_tokens") or ():
        tokens[added["id"]] = added["content"]
    _gemma4_types(data, types)
    _mark_bytes(tokens, types, None)
    specials = _special_ids(folder, ids, len(tokens), (*_NAMES, ("mask", "mask_token")))
    if "bos" not in specials:
        raise InputError(
            "no bos token, and llama.cpp puts one before every prompt of Gemma 4",
            where=str(folder),
            fix="choose another base",
        )
    return Vocabulary(
        model="gemma4",
        pre="gemma4",
        tokens=tokens,
        types=types,
        merges=_joined(_pairs(model)),
        scores=[_ADDED_SCORE] * len(tokens),
        specials=specials,
        add_bos=True,
        add_eos=False,
        add_space_prefix=False,
        template=chat_template(folder),
    )


def _mark_bytes(tokens: list[str], types: list[int], unknown: str | None) -> None:
    for number, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[number] = int(TokenType.BYTE)
        elif token == unknown:
            types[number] = int(TokenType.UNKNOWN)


def _scores(folder: Path, tokens: list[str], types: list[int], merges: list[list[str]]) -> list[float]:
    """Scores from ``tokenizer.model``, otherwise by the rank of the merge that makes the token."""
    if (folder / "tokenizer.model").is_file():
        known = model_pieces(folder / "tokenizer.model")
    else:
        known = scores_of_merges(merges)
    added = (TokenType.CONTROL, TokenType.USER_DEFINED)
    return [
        _ADDED_SCORE if kind in added else _UNUSED_SCORE if kind == TokenType.UNUSED else known.get(token, 0.0)
        for token, kind in zip(tokens, types, strict=True)
    ]
