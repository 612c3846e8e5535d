"""Answers that got a thumb at ``ragtune serve``, as pairs that a person reviews before anything is trained on them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mlx_ragtune.answering.votes import VOTES, Vote, VoteLog
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Document, Pair
from mlx_ragtune.reviewing.review_items import ReviewItem
from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.refusal import is_refusal


def voted_items(run: OpenRun) -> list[ReviewItem]:
    """The answers with a vote that counts, those that were disliked first. Raises ArtifactError without a corpus."""
    votes = VoteLog(run.home / VOTES).votes()
    if not votes:
        return []
    documents = run.artifact("corpus").folder / "documents.jsonl"
    titles = {document.id: document.title for document in read_rows(documents, Document)}
    return voted_pairs(votes, titles)


def voted_pairs(votes: Iterable[Vote], titles: Mapping[str, str]) -> list[ReviewItem]:
    """A pair for each vote. Its papers are those whose titles the answer cites; without any, the first one shown."""
    ordered = sorted(votes, key=lambda vote: vote.vote != "down")
    return [ReviewItem("votes", _pair(vote, titles), task=_task(vote)) for vote in ordered]


def _pair(vote: Vote, titles: Mapping[str, str]) -> Pair:
    name = f"vote-{vote.answer_id.removeprefix('chatcmpl-')}"
    if is_refusal(vote.answer):
        return Pair(name, "refusal", vote.question, vote.answer, refusal_kind="off_corpus")
    said = fold(vote.answer)
    cited = tuple(paper for paper in vote.papers if paper in titles and fold(titles[paper]) in said)
    papers = cited or vote.papers[:1]
    return Pair(name, "synthesis" if len(papers) > 1 else "grounded", vote.question, vote.answer, papers)


def _task(vote: Vote) -> str:
    """What the reviewer is told about the vote."""
    strength = "" if vote.strength is None else f" at strength {vote.strength:g}"
    verdict = "liked" if vote.vote == "up" else "disliked"
    return f"{verdict}, {vote.arm}{strength}" + (f": {vote.note}" if vote.note else "")


def votes_file(recipe: Recipe, recipe_path: Path) -> Path:
    """The file of reviewed answers, beside the recipe."""
    return recipe_path.resolve().with_name(f"{recipe.name}-votes.jsonl")
