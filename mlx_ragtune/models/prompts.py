"""Chat messages as the prompt that training renders and the server must repeat, as text and as tokens."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.records import Message


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a model folder, without remote code, and without a word about torch."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)


def prompt_text(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> str:
    """The prompt as training renders it and the server must: with an empty think block where thinking is off."""
    turns = [{"role": one.role, "content": unicodedata.normalize("NFC", one.content)} for one in messages]
    return str(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=thinking)
    )


def prompt_tokens(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> list[int]:
    """The tokens of ``prompt_text``; special tokens by their text, nothing put in front."""
    return list(tokenizer.encode(prompt_text(messages, tokenizer, thinking=thinking), add_special_tokens=False))


def end_of_turn(tokenizer: Any) -> list[int]:
    """The tokens that end the model's turn, read off the chat template: for ChatML ``<|im_end|>``."""
    marks = ("\u2060user\u2060", "\u2060assistant\u2060")
    turns = [{"role": "user", "content": marks[0]}, {"role": "assistant", "content": marks[1]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    tail = text.rsplit(marks[1], 1)[-1].strip() if marks[1] in text else ""
    ids = list(tokenizer.encode(tail, add_special_tokens=False)) if tail else []
    return ids or [int(tokenizer.eos_token_id)]


@dataclass(frozen=True)
class Prompt:
    """A prompt as training rendered it."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


def rendered(messages: Sequence[Sequence[Message]], base: Path, *, thinking: bool) -> list[Prompt]:
    """The prompts with the tokens that training makes of them."""
    tokenizer = load_tokenizer(base)
    return [Prompt(tuple(one), tuple(prompt_tokens(one, tokenizer, thinking=thinking))) for one in messages]
