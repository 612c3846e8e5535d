"""Chat messages as the prompt that training renders and the server must repeat, as text and as tokens."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import flat_config, window
from mlx_ragtune.models.template_dates import freeze_tokenizer
from mlx_ragtune.models.vocabulary import chat_template, read_json
from mlx_ragtune.records import Message

_SYSTEM, _USER, _ASSISTANT = (f"\u2060{role}\u2060" for role in ("system", "user", "assistant"))
"""Marks that no template contains. Word joiners are not white space, so ``trim`` keeps them."""
_THINK_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>", "<channel|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a model folder, without remote code; the date in its chat template is frozen.

    Raises InputError for a damaged one.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        return as_served(freeze_tokenizer(tokenizer), folder)
    except Exception as error:
        raise InputError(
            f"cannot load the tokenizer: {type(error).__name__}: {_first_line(error)}",
            where=str(folder),
            fix="fetch the model again",
        ) from None


def as_served(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer of a model folder, which puts a BOS before a text wherever llama.cpp does.

    It always does for Gemma 4, whose own tokenizer leaves the BOS to the template.
    """
    config = flat_config(read_json(folder / "config.json"))
    bos = tokenizer.bos_token
    if config.get("model_type") == gemma4.MODEL_TYPE and bos is not None and added_bos(tokenizer) is None:
        from tokenizers.processors import TemplateProcessing

        added = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = added
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:300]


def prompt_text(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> str:
    """The prompt as text, in NFC, ending where the answer begins; an empty think block where thinking is off.

    As servers return it: without the BOS that the template writes, where the tokenizer adds one (``text_tokens``).
    """
    turns = [{"role": message.role, "content": unicodedata.normalize("NFC", message.content)} for message in messages]
    text = str(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=thinking)
    )
    return text if added_bos(tokenizer) is None else text.removeprefix(str(tokenizer.bos_token))


def prompt_tokens(messages: Sequence[Message], tokenizer: Any, *, thinking: bool) -> list[int]:
    """Token ids of ``prompt_text`` as servers read it (``text_tokens``)."""
    return text_tokens(prompt_text(messages, tokenizer, thinking=thinking), tokenizer)


def text_tokens(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a rendered prompt. Special tokens come from the text, and a BOS from the tokenizer if it adds one.

    llama.cpp puts the BOS of such a tokenizer before every prompt, and takes away the one that the template writes:
    there is always one, never two. transformers' ``apply_chat_template`` adds none.
    """
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    bos = added_bos(tokenizer)
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def added_bos(tokenizer: Any) -> int | None:
    """The id that the tokenizer puts before a text, or None."""
    bare, framed = (list(tokenizer.encode("a", add_special_tokens=special)) for special in (False, True))
    return framed[0] if len(framed) > len(bare) and framed[:1] != bare[:1] else None


def answer_tokens(text: str, prompt: Sequence[int], prompt_text: str, tokenizer: Any) -> list[int]:
    """Token ids of an answer as the model continues a prompt (its ids and its text), which ends where it begins.

    SentencePiece tokenizers (Llama 2, Mistral 0.1) put a space before a text; one before an answer would be trained.
    """
    alone = list(tokenizer.encode(text, add_special_tokens=False))
    if not _adds_space(tokenizer):
        return alone
    whole = text_tokens(prompt_text + text, tokenizer)
    if whole[: len(prompt)] == list(prompt):
        return whole[len(prompt) :]
    line, both = (list(tokenizer.encode(part, add_special_tokens=False)) for part in ("\n", "\n" + text))
    return both[len(line) :] if both[: len(line)] == line else alone


def _adds_space(tokenizer: Any) -> bool:
    """Whether a text is encoded in another way alone than in the middle of a line of its own."""
    line, alone, both = (list(tokenizer.encode(text, add_special_tokens=False)) for text in ("\n", "a", "\na"))
    return both != line + alone


def end_of_turn(tokenizer: Any) -> list[int]:
    """Token ids that end the model's turn, taken from the chat template: ``<|im_end|>`` for ChatML.

    The last one is a special token, at which a server stops: the EOS token follows where the template writes none.
    """
    text = tokenizer.apply_chat_template(_turns(_USER, _ASSISTANT), tokenize=False)
    tail = text.rsplit(_ASSISTANT, 1)[-1].strip() if _ASSISTANT in text else ""
    ids = list(tokenizer.encode(tail, add_special_tokens=False)) if tail else []
    special = set(tokenizer.all_special_ids) | {number for number, token in _added(tokenizer) if token.special}
    at = next((place for place, number in enumerate(ids) if number in special), None)
    return [*ids, int(tokenizer.eos_token_id)] if at is None else ids[: at + 1]


def _added(tokenizer: Any) -> Iterable[tuple[int, Any]]:
    return getattr(tokenizer, "added_tokens_decoder", {}).items()


def _turns(*marks: str) -> list[dict[str, str]]:
    return [{"role": mark.strip("\u2060"), "content": mark} for mark in marks]


class _Clock:
    """Stands in for ``datetime`` in transformers' ``strftime_now``; ``read`` tells whether it was asked."""

    def __init__(self) -> None:
        self.read = False

    def now(self) -> datetime:
        self.read = True
        return datetime(2000, 1, 1, tzinfo=UTC)


class _Template:
    """A chat template that is tried out with marks in place of messages."""

    def __init__(self, folder: Path, *, thinking: bool) -> None:
        self._text, self.tokenizer, self._thinking = chat_template(folder), load_tokenizer(folder), thinking
        file = folder / "chat_template.jinja"
        self.where = str(file if file.exists() else folder / "tokenizer_config.json")

    def prints_the_date(self) -> bool:
        """Whether the template calls ``strftime_now`` for a prompt with a system message."""
        if "strftime_now" not in self._text:
            return False
        from transformers.utils import chat_template_utils

        clock = _Clock()
        real, chat_template_utils.datetime = chat_template_utils.datetime, clock
        try:
            self.render(_SYSTEM, _USER, generate=True)
        finally:
            chat_template_utils.datetime = real
        return clock.read

    def render(self, *turns: str, generate: bool) -> str:
        """The text of turns by system, user and assistant. Raises InputError when the template fails."""
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    _turns(*turns),
                    add_generation_prompt=generate,
                    tokenize=False,
                    enable_thinking=self._thinking,
                )
            )
        except Exception as error:
            line = getattr(error, "lineno", None)
            where = f"{self.where}:{line}" if line and self.where.endswith(".jinja") else self.where
            raise InputError(
                f"the chat template fails: {type(error).__name__}: {_first_line(error)}",
                where=where,
                fix="choose another base, or repair the template",
            ) from None

    def error(self, what: str, fix: str = "choose a base whose template has all three roles") -> InputError:
        """An error about this template."""
        return InputError(f"the chat template {what}", where=self.where, fix=fix)


def turn_end_id(folder: Path) -> int:
    """The special token at which the model's turn ends. Raises InputError when the template fails."""
    template = _Template(folder, thinking=False)
    template.render(_USER, _ASSISTANT, generate=False)
    return end_of_turn(template.tokenizer)[-1]


def check_template(folder: Path, *, thinking: bool) -> None:
    """Raise InputError for a chat template that training and serving cannot use.

    It must render without an error, keep the text of system, user and assistant turns, give the same prompt
    every day, and not end the prompt inside an open think block.
    """
    template = _Template(folder, thinking=thinking)
    template.render(_USER, generate=True)
    template.render(_USER, _ASSISTANT, generate=False)
    try:
        prompt = template.render(_SYSTEM, _USER, generate=True)
    except InputError as error:
        reason = error.what.removeprefix("the chat template fails: ")
        raise template.error(
            f"does not accept a system message ({reason})", "choose a base whose template has a system role"
        ) from None
    whole = template.render(_SYSTEM, _USER, _ASSISTANT, generate=False)
    for mark, role, text in ((_SYSTEM, "system", prompt), (_USER, "user", prompt), (_ASSISTANT, "assistant", whole)):
        if mark not in text:
            raise template.error(f"leaves out the {role} message")
    if template.prints_the_date():
        raise template.error(
            "prints the current date in a form that cannot be frozen, so the same prompt would differ from day to day",
            "copy the model folder, replace strftime_now(...) in its chat template with a fixed date, "
            "and name the copy in base.model",
        )
    tail = prompt.rsplit(_USER, 1)[-1]
    for begin, end in _THINK_TAGS:
        if tail.count(begin) > tail.count(end):
            setting = "dataset.thinking is on" if thinking else "dataset.thinking is off"
            raise template.error(
                f"always opens a think block ({begin!r}), although {setting} and the training answers have none",
                "choose a base that answers without thinking, or whose template supports enable_thinking",
            )


@dataclass(frozen=True)
class Prompt:
    """Messages with the token ids that training makes of them."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


def context_window(folder: Path) -> int:
    """Tokens that the model reads at most (``architectures.window``)."""
    return window(flat_config(read_json(folder / "config.json")))


def check_prompt_lengths(prompts: Sequence[Sequence[int]], *, window: int) -> None:
    """Raise InputError when a prompt (token ids) leaves no room for an answer in a window of so many tokens."""
    longest = max(map(len, prompts), default=0)
    if longest >= window:
        raise InputError(
            f"a prompt has {longest} tokens, the base model reads at most {window}",
            where="benchmark",
            fix="shorten the longest benchmark question, or lower retrieval.top_k or corpus.chunk_tokens",
        )


def check_question_lengths(questions: Sequence[tuple[str, str]], folder: Path, *, window: int) -> None:
    """Raise InputError for a question (``file:line``, text) that alone fills a window of so many tokens."""
    tokenizer = load_tokenizer(folder)
    for where, text in questions:
        # a token is at least one byte, so short questions need no tokenizer
        if len(text.encode("utf-8", "replace")) < window:
            continue
        tokens = len(tokenizer.encode(text, add_special_tokens=False))
        if tokens >= window:
            raise InputError(
                f"the question has {tokens} tokens, the model reads at most {window}",
                where=where,
                fix="shorten the question",
            )


def rendered(messages: Sequence[Sequence[Message]], base: Path, *, thinking: bool) -> list[Prompt]:
    """The prompts with the tokens that training makes of them. Raises InputError for one beyond the base's window."""
    tokenizer = load_tokenizer(base)
    prompts = [Prompt(tuple(turns), tuple(prompt_tokens(turns, tokenizer, thinking=thinking))) for turns in messages]
    check_prompt_lengths([prompt.tokens for prompt in prompts], window=context_window(base))
    return prompts
