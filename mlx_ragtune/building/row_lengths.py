"""How long rows will be, before a generator writes them: prompts of random passages, with room to answer."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Chunk, Passage
from mlx_ragtune.retrieval.prompt import build_messages

DRAWS = 100
QUESTION_WORDS, ANSWER_WORDS = 20, 70
"""Words of a usual question and answer; their tokens are counted on words of the papers."""
FEW = 0.02
"""Of the drawn rows, so many may be too long before it is an error where no row may be."""
STEP = 64


@dataclass(frozen=True)
class RowLengths:
    """Tokens of drawn rows: ``too_long`` is the share that exceeds the limit; ``most`` fits 99 of 100."""

    mean: int
    most: int
    too_long: float


def row_lengths(recipe: Recipe, chunks: Sequence[Chunk], base: Path) -> RowLengths:
    """Lengths of ``DRAWS`` rows with ``retrieval.top_k`` random passages each. ``chunks`` must not be empty."""
    tokenizer, thinking = load_tokenizer(base), recipe.dataset.thinking == "on"
    draw = random.Random(recipe.seed)  # noqa: S311 (a choice that can be repeated, not a secret)
    lengths = []
    for _ in range(DRAWS):
        shown = draw.choices(chunks, k=recipe.retrieval.top_k)
        said = [word for chunk in shown for word in chunk.text.split()]
        question = " ".join(said[:QUESTION_WORDS])
        answer = " ".join(said[QUESTION_WORDS : QUESTION_WORDS + ANSWER_WORDS])
        passages = [Passage(chunk.id, chunk.document_id, chunk.title, chunk.text) for chunk in shown]
        prompt = prompt_tokens(build_messages(passages, question), tokenizer, thinking=thinking)
        lengths.append(len(prompt) + len(tokenizer.encode(answer, add_special_tokens=False)))
    lengths.sort()
    over = sum(length > recipe.dataset.max_tokens for length in lengths)
    return RowLengths(round(sum(lengths) / DRAWS), lengths[math.ceil(0.99 * DRAWS) - 1], over / DRAWS)


def require_room(recipe: Recipe, chunks: Sequence[Chunk], base: Path) -> None:
    """Raise InputError, with the limit that fits, when many rows will be longer than ``dataset.max_tokens``."""
    found = row_lengths(recipe, chunks, base)
    settings = recipe.dataset
    allowed = FEW if settings.on_too_long == "fail" else settings.max_loss
    if found.too_long <= allowed:
        return
    raise InputError(
        f"{found.too_long:.0%} of the rows will be longer than {settings.max_tokens} tokens: with "
        f"{recipe.retrieval.top_k} passages a row has about {found.mean} tokens, 1 in 100 more than {found.most}",
        where="dataset.max_tokens",
        fix=f"set dataset.max_tokens: {math.ceil(found.most / STEP) * STEP}, or lower retrieval.top_k or "
        "corpus.chunk_tokens",
    )
