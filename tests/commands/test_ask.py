"""What ``ragtune ask`` says about its passages: which match, and when none does."""

from mlx_ragtune.commands.ask import show


def reply(*found_by: list[str]) -> dict[str, object]:
    contexts = [{"title": f"Paper {at}", "text": "Some text.", "found_by": by} for at, by in enumerate(found_by)]
    return {"question": "q", "contexts": contexts, "answers": {"base": "an answer"}}


def test_it_says_that_no_passage_matched() -> None:
    text = show(reply([], []))
    assert text.startswith("No passage matches the question: the models were shown the first passages of the corpus.")
    assert "[1] Paper 0 (does not match the question)" in text


def test_it_says_which_passages_only_fill_up() -> None:
    assert show(reply(["full text"], [])).split("\n")[0] == "[1] Paper 0"
    assert "[2] Paper 1 (does not match the question)" in show(reply(["full text"], []))


def test_it_says_when_only_vectors_found_anything() -> None:
    assert show(reply(["vectors"])).startswith("No passage shares a word with the question")
    assert show(reply(["vectors"], ["full text", "vectors"])).startswith("[1] Paper 0")
