r"""LaTeX in: what the printed paper says, nothing from outside of its folder, everything else listed."""

import gzip
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.latex import read_latex, read_latex_archive
from tests.papers.packages import write_tar

BEGIN, END = "\\documentclass{article}\n\\begin{document}\n", "\n\\end{document}\n"


def read(folder: Path, text: str, **files: str) -> Reading:
    for name, content in {"main_tex": text, **files}.items():
        path = folder / name.replace("__", "/").replace("_tex", ".tex").replace("_bbl", ".bbl").replace("_sty", ".sty")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return read_latex(folder / "main.tex", "main")


def body(folder: Path, text: str, preamble: str = "", **files: str) -> str:
    """The text of a document with this body, without the line end."""
    source = f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
    return read(folder, source, **files).document.text.rstrip("\n")


def left_out(reading: Reading) -> list[tuple[str, str]]:
    return [(drop.reason, drop.text) for drop in reading.dropped]


def test_title_authors_abstract_sections_and_appendices(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        r"""\documentclass{article}
\title{Q\textsc{lora}: Efficient \\ Finetuning\thanks{Equal work.}}
\author{Tim Dettmers$^{1}$\thanks{Corresponding} \and Kurt G\"odel \\ University of Vienna \\ \texttt{k@g.at} \And
 Ada Lovelace}
\date{May 2023}
\begin{document}
\maketitle
\begin{abstract}Short.\end{abstract}
\section[Short]{Methods \& Data}
\subsection{Data} Ten sets.
\subsubsection*{More}
Text.
\appendix
\section{Proofs}
By hand.
\end{document}""",
    ).document
    assert document.title == "Qlora: Efficient Finetuning"
    assert document.authors == ("Tim Dettmers", "Kurt Gödel", "Ada Lovelace")
    assert document.year == 2023
    assert [section.title for section in document.sections] == [
        "", "Abstract", "Methods & Data", "Data", "More", "Proofs",
    ]  # fmt: skip
    assert "University of Vienna" in document.text
    assert "Footnote: Equal work." in document.text


@pytest.mark.parametrize(
    "author",
    [
        r"\author{\IEEEauthorblockN{Ada Lovelace}\IEEEauthorblockA{Univ. of X}\and\IEEEauthorblockN{Kurt G\"odel}}",
        r"\author{Ada Lovelace\inst{1} \and Kurt G\"odel\inst{2}}",
        r"\author[1]{Ada Lovelace}\author[2]{Kurt G\"odel}\affil[1]{X}",
        r"\author{Ada Lovelace$^{1,2}$, Kurt G\"odel$^*$ \\ Univ. of X, Vienna}",
    ],
)
def test_authors_of_other_classes_are_known(tmp_path: Path, author: str) -> None:
    head = "\\documentclass{IEEEtran}\\title{T}\n"
    document = read(tmp_path, head + author + "\\begin{document}\\maketitle Text.\\end{document}").document
    assert document.authors == ("Ada Lovelace", "Kurt Gödel")
    assert "Ada Lovelace" in document.text


def test_macros_are_expanded_in_text_and_formulas(tmp_path: Path) -> None:
    preamble = r"""
\newcommand{\method}{\textsc{QLoRA}\xspace}
\newcommand{\norm}[1]{\lVert #1 \rVert}
\newcommand{\pair}[2][left]{#1 and #2}
\renewcommand*\vec[1]{\mathbf{#1}}
\def\twice#1#2{#1#2#1}
\DeclareMathOperator*{\argmin}{arg\,min}
\let\old\method
\def\be{\begin{equation}} \def\ee{\end{equation}}
\newenvironment{claim}[1]{\textbf{Claim #1.}}{$\square$}"""
    text = r"""\method is $\norm{x}$, \method{} is \pair{right} or \pair[a]{b}; \twice{x}{y}, \old.

$\argmin_x \norm{\vec{x}}$ \be a=b \ee \begin{claim}{A}It holds.\end{claim}"""
    assert body(tmp_path, text, preamble).split("\n") == [
        "QLoRA is ‖x‖, QLoRA is left and right or a and b; xyx, QLoRA.",
        "arg min_x ‖x‖",
        "a=b (1)",
        "Claim A.It holds.□",
    ]


def test_files_are_included_from_the_folder_only_and_missing_ones_are_listed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.tex"
    secret.write_text("SECRET WORDS")
    folder = tmp_path / "paper"
    folder.mkdir()
    (folder / "link.tex").symlink_to(secret)
    names = ("../secret", str(secret), "link", "sections/../../secret", "gone", "main")
    text = (
        r"\input{sections/one} \include{two}"
        + "".join(f"\\input{{{name}}}" for name in names)
        + r"\input sections/bare "
    )
    reading = read(
        folder,
        BEGIN + text + END,
        sections__one_tex="One \\input{sections/inner}",
        sections__inner_tex="inner.",
        two_tex="Two.",
        sections__bare_tex="Bare.",
    )
    assert reading.document.text == "One inner. Two. Bare.\n"
    assert left_out(reading) == [
        *(("missing or outside of the folder", name) for name in names[:-1]), ("includes itself", "main"),
    ]  # fmt: skip


def test_comments_and_branches_that_are_not_taken_are_listed(tmp_path: Path) -> None:
    text = r"""Fifty 50\% kept % a secret
of \url{http://x.y/a%20b}.
% alone

\iffalse Never. \else Always. \fi
\newif\iflong \iflong Long. \else Short. \fi \longtrue \iflong Now long. \fi
\begin{comment}
Old words.
\end{comment}
\verb|a%b| \todo{check this}"""
    reading = read(tmp_path, BEGIN + text + END + "junk")
    assert reading.document.text.split("\n") == [
        "Fifty 50% kept of http://x.y/a%20b.", "Always. Short. Now long. a%b", "",
    ]  # fmt: skip
    assert left_out(reading) == [
        ("comment", "a secret\nalone\nOld words."),
        ("after the end of the document", "junk"),
        ("branch not taken", "Never."),
        ("branch not taken", "Long."),
        ("note of the authors", "check this"),
    ]


def test_accents_dashes_quotes_and_ligatures_are_characters(tmp_path: Path) -> None:
    text = r"""Na\"{\i}ve G\"odel, Erd\H{o}s, \c{C}a \v Skoda, \aa, stra\ss e, \O re;
``q'' 1--2 --- a~b \LaTeX{} \S 5 \$3"""
    assert body(tmp_path, text) == "Naïve Gödel, Erdős, Ça Škoda, å, straße, Øre; “q” 1–2 — a b LaTeX §5 $3"


def test_formulas_are_readable_and_numbered_where_they_are_printed_so(tmp_path: Path) -> None:
    text = r"""A rate of $10^{-4}$, \(m^2\), $\alpha_{t}\le\frac{a+b}{c}$, $\mathbb{R}^{d\times k}$.
\begin{align}
a &= b \label{eq:a}\\
c &= d \nonumber\\
e &= \text{if } x
\end{align}
\[ \sum_{i=1}^{n} \hat{y}_i \] $$x$$ \begin{equation*}z\end{equation*} As in \eqref{eq:a}."""
    assert body(tmp_path, text).split("\n") == [
        "A rate of 10^-4, m^2, α_t ≤ (a+b)/c, ℝ^{d × k}.",
        "a = b (1)",
        "c = d",
        "e = if x (2)",
        "∑_{i=1}^n ŷ_i",
        "x",
        "z",
        "As in (1).",
    ]


def test_tables_are_rows_and_captions_have_their_numbers(tmp_path: Path) -> None:
    text = r"""\begin{table}\centering\caption[short]{Results on \emph{MMLU}.}\label{t}
\begin{tabular}{@{}l|cc@{}}\toprule
\multirow{2}{*}{Model} & \multicolumn{2}{c}{Accuracy} \\ \cmidrule(lr){2-3}
 & 5-shot & 0-shot \\[2pt] \midrule
7B & \textbf{38.4} & $35.1\pm0.2$ \\ A|B & 47.2 & \\ \bottomrule
\end{tabular}\end{table}
\begin{figure}\includegraphics[width=1in]{figs/one.pdf}\caption{A curve.}\label{f}\end{figure}
See Table~\ref{t}, \autoref{f}, \ref{nowhere}."""
    reading = read(tmp_path, BEGIN + text + END)
    assert reading.document.text.split("\n") == [
        "Table 1: Results on MMLU.",
        "| Model | Accuracy |  |",
        "| --- | --- | --- |",
        "|  | 5-shot | 0-shot |",
        "| 7B | 38.4 | 35.1 ± 0.2 |",
        "| A\\|B | 47.2 |  |",
        "Figure 1: A curve.",
        "See Table 1, Figure 1, [nowhere].",
        "",
    ]
    assert left_out(reading) == [("picture", "figs/one.pdf")]


def test_citations_are_written_as_the_paper_prints_them(tmp_path: Path) -> None:
    text = r"\citep[see][p.~3]{hu} and \citet{hu,tim} show; \cite{hu}, \citeauthor{tim}, \citeyear{tim}, \cite{gone}."
    named = r"""\begin{thebibliography}{2}
\bibitem[Hu et~al.(2021)Hu, Shen]{hu} Edward Hu. LoRA.
\bibitem[Dettmers(2022)]{tim} Tim. 8-bit.
\end{thebibliography}"""
    reading = read(tmp_path, BEGIN + text + r"\bibliography{refs}" + END, main_bbl=named)
    assert reading.document.text == (
        "(see Hu et al., 2021, p. 3) and Hu et al. (2021), Dettmers (2022) show; (Hu et al., 2021), Dettmers, 2022, "
        "[gone].\n"
    )
    assert left_out(reading) == [("references", "Edward Hu. LoRA.\nTim. 8-bit.")]
    numbered = r"\begin{thebibliography}{2}\bibitem{tim} Tim. \bibitem{hu} Hu.\end{thebibliography}"
    (tmp_path / "main.bbl").unlink()
    assert body(tmp_path, r"As \cite{hu,tim}. " + numbered) == "As [2, 1]."


def test_without_a_bbl_file_citations_come_from_the_bib_file(tmp_path: Path) -> None:
    (tmp_path / "refs.bib").write_text(
        "@article{hu, title={LoRA}, author={Hu, Edward and Shen, Yelong and Wallis, P.}, year={2021}}\n"
        "@misc{x, title={y}}"
    )
    assert body(tmp_path, r"As \citep{hu} say.\bibliography{refs}") == "As (Hu et al., 2021) say."


def test_lists_footnotes_theorems_code_and_paragraph_heads(tmp_path: Path) -> None:
    text = r"""\paragraph{Setup} We run\footnote{On one GPU.} it.
\begin{enumerate}\item First \item Second\end{enumerate}
\begin{itemize}\item[Note] Third\end{itemize}
\begin{theorem}[Main]\label{th} Let $x>0$.\end{theorem} \begin{lemma}So.\end{lemma}
By Theorem~\ref{th}.
\begin{verbatim}
def f(x):  % kept
    return $x
\end{verbatim}
\begin{tikzpicture}\draw (0,0);\end{tikzpicture}"""
    preamble = "\\newtheorem{theorem}{Theorem}\\newtheorem{lemma}[theorem]{Lemma}"
    assert body(tmp_path, text, preamble).split("\n") == [
        "Setup. We run it.",
        "Footnote: On one GPU.",
        "1. First",
        "2. Second",
        "- Note Third",
        "Theorem 1 (Main). Let x>0.",
        "Lemma 2. So.",
        "By Theorem 1.",
        "def f(x):  % kept",
        "return $x",
    ]


def test_a_command_without_a_known_meaning_prints_its_arguments(tmp_path: Path) -> None:
    assert body(tmp_path, r"\strange[opt]{kept} and \begin{odd}too\end{odd} \textcolor{red}{red} \unknown end") == (
        "kept and\ntoo\nred end"
    )


def test_macros_of_a_style_that_comes_with_the_paper_are_known(tmp_path: Path) -> None:
    style = "\\newcommand{\\mine}[1]{<#1>}\n\\renewcommand{\\section}{\\@startsection}\n\\def\\x@y{z}"
    assert body(tmp_path, r"\section{One}\mine{a}", r"\usepackage[final]{mystyle}", mystyle_sty=style) == "One\n<a>"


@pytest.mark.parametrize(
    "macros",
    [
        r"\def\a{\b}\def\b{\a}\a",
        r"\def\a{\b\b\b\b}\def\b{\c\c\c\c}\def\c{\d\d\d\d}\def\d{\e\e\e\e}\def\e{\f\f\f\f}\def\f{\g\g\g\g}"
        r"\def\g{\h\h\h\h}\def\h{\i\i\i\i}\def\i{\j\j\j\j}\def\j{text}\a",
        r"\newcommand{\a}[1]{\b{#1#1}}\newcommand{\b}[1]{\a{#1#1}}\a{x}",
        r"$\def\a{\b}$ \newcommand{\a}{\b x}\newcommand{\b}{\a}$\a$",
    ],
)
def test_macros_that_expand_without_end_are_refused(tmp_path: Path, macros: str) -> None:
    with pytest.raises(InputError, match=r"its macros (expand without end|or files nest too deeply)") as caught:
        body(tmp_path, macros)
    assert caught.value.where == str(tmp_path / "main.tex")


@pytest.mark.parametrize(
    "text",
    [
        "{" * 50_000 + "word",
        "\\textbf{" * 3000 + "word",
        "$" + "{" * 5000 + "word",
        r"\footnote{" * 500 + "word",
        r"\begin{itemize}" * 2000 + "word",
        r"\begin{tabular}{c}" * 300 + "word",
        r"\frac" * 3000 + " word",
        r"\ifx" * 3000 + " word",
        r"word \begin{equation} x",
        r"word \newcommand{\x",
        "word \\",
        r"word \input",
        r"word \begin{",
        r"word \verb",
        r"word $x",
        r"word \def\x#",
        r"word \cite[",
        r"word \item[",
        r"word \ref{",
        r"word \section{",
    ],
)
def test_broken_and_very_deep_source_keeps_its_words(tmp_path: Path, text: str) -> None:
    reading = read(tmp_path, BEGIN + text)
    words = reading.document.text + " ".join(drop.text for drop in reading.dropped)
    assert "word" in words


def test_an_archive_is_read_in_memory_from_its_main_file(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "00README.XXX": "x", "figs/a.pdf": b"%PDF", "sections/a.tex": "Inside.", "macros.sty": r"\newcommand{\m}{M}",
        "ms.tex": r"\documentclass{article}\usepackage{macros}\title{Main}\begin{document}\maketitle\input{sections/a} "
        r"\m{} \cite{k}\input{../x}\end{document}",
        "ms.bbl": r"\begin{thebibliography}{1}\bibitem{k} Work.\end{thebibliography}",
        "drawing.tex": r"\documentclass{standalone}\begin{document}Drawing\end{document}",
        "../x.tex": "SECRET",
    }  # fmt: skip
    path = write_tar(tmp_path / "arXiv-2305.14314v2.tar.gz", files, links={"l.tex": "/etc/passwd"})
    reading = read_latex_archive(path, "x")
    document = reading.document
    assert document.text == "Main\nInside. M [1]\n"
    assert (document.title, document.arxiv_id, document.year) == ("Main", "2305.14314", 2023)
    assert left_out(reading) == [
        ("missing or outside of the folder", "../x"),
        ("references", "Work."),
        ("link, device or path that leaves the archive", "../x.tex"),
        ("link, device or path that leaves the archive", "l.tex"),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]


def test_a_single_packed_file_is_a_paper_and_what_holds_no_latex_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cs_0112017.gz"
    path.write_bytes(gzip.compress((BEGIN + "Old \\'el\\`eve." + END).encode("latin-1")))
    document = read_latex_archive(path, "x").document
    assert (document.text, document.arxiv_id, document.year) == ("Old élève.\n", "cs/0112017", 2001)
    for content, reason in ((b"%PDF-1.4", "it holds a PDF, not LaTeX"), (b"plain words", "it holds no LaTeX")):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(InputError, match=reason):
            read_latex_archive(path, "x")
    with pytest.raises(InputError, match="it holds no LaTeX"):
        read_latex_archive(write_tar(tmp_path / "x.tar.gz", {"a.txt": "x"}), "x")


def test_older_sources_in_latin_1_are_read(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_bytes((BEGIN + "Müller" + END).encode("latin-1"))
    assert read_latex(tmp_path / "main.tex", "x").document.text == "Müller\n"
