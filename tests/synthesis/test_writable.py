"""Questions are written on prose only."""

import pytest

from mlx_ragtune.records import Chunk
from mlx_ragtune.synthesis.writable import is_writable, why_not_writable
from tests.synthesis.writer import note_chunks

PROSE = (
    "We train the adapter for two epochs on eight thousand pairs and keep the weights of the base model frozen. "
    "The memory that this takes falls from forty to eleven gigabytes, and the accuracy stays within half a point."
)


def chunk(text: str, section: str = "Method") -> Chunk:
    return Chunk("p-0", "p", "A Title", section, 1, 0, len(text), text)


def test_every_chunk_of_the_shipped_notes_is_writable() -> None:
    assert all(is_writable(one) for one in note_chunks())


def test_prose_in_other_scripts_is_writable() -> None:
    assert is_writable(
        chunk("この論文は電池の劣化を測定する。容量は三百回の充電の後に二割減る。温度が高いほど速く減る。")
    )


@pytest.mark.parametrize(
    "section",
    [
        "Acknowledgements",
        "7 Acknowledgments",
        "Funding",
        "References",
        "VI. REFERENCES",
        "Keywords",
        "Author contributions",
        "Conflicts of Interest",
        "Declaration of competing interest",
        "Data Availability Statement",
        "Literaturverzeichnis",
    ],
)
def test_sections_beside_the_paper_are_not_written_on(section: str) -> None:
    assert not is_writable(chunk(PROSE, section))
    assert is_writable(chunk(PROSE, "Results with references to earlier work"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It builds on.", "too short"),
        ("Keywords: retrieval, adapters, language models, memory, training, low rank, evaluation, papers, "
         "answers, tokens", "too short"),
        (", ".join(f"retrieval{n}, low rank adapters, memory" for n in range(9)) + ".", "title page"),
        ("Zoo: An S3 Class\nAnna Berg, Carl Dahl, Eva Falk\nUniversity of Lund, Department of Statistics\n"
         "anna.berg@lund.example\nGöran Holm, Ivar Jansson, Karin Lind\nRoyal Institute of Technology, Stockholm\n"
         "Journal of Statistical Software, Volume 14, Issue 6, May 2005", "title page"),
        ("12.5 13.1 14.2 9.1 10.4\n3.3 4.5 6.1 2.2 1.9\n" * 6, "title page"),
    ],
)  # fmt: skip
def test_what_states_nothing_is_not_written_on(text: str, reason: str) -> None:
    assert (why_not_writable(chunk(text)) or "").startswith(reason)


def test_a_title_page_with_its_abstract_is_writable() -> None:
    assert is_writable(chunk(f"A Title\nAnna Berg, Carl Dahl\nanna@lund.example\nAbstract\n{PROSE}"))
