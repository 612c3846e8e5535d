"""Formulas in one line: as a reader would write them without a formula editor."""

import pytest

from mlx_ragtune.papers.latex_math import readable_math
from mlx_ragtune.papers.latex_symbols import decode_latex


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"E=mc^{2}", "E=mc^2"),
        (r"10^{-4}", "10^-4"),
        (r"\frac{\alpha}{r}BA", "α/r BA"),
        (r"\dfrac{a+b}{\sqrt{c}}", "(a+b)/√c"),
        (r"\sqrt[3]{x+1}", "√[3](x+1)"),
        (r"x_{i,j}^{(l)}", "x_{i,j}^(l)"),
        (r"\sum_{i=1}^{n}\log p_\theta(x_i\mid x_{<i})", "∑_{i=1}^n log p_θ(x_i | x_{<i})"),
        (r"\mathcal{L}(\theta)=\mathbb{R}\left[\,x\,\right]", "L(θ)=ℝ[x]"),
        (r"W\in\mathbb{R}^{d\times k}, \hat{y}, f'(x), 90^\circ", "W ∈ ℝ^{d × k}, ŷ, f′(x), 90°"),
        (r"\begin{cases}1&\text{if }x>0\\0&\text{else}\end{cases}", "{ 1 if x>0; 0 else }"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[1, 2; 3, 4]"),
        (r"\lVert x \rVert_2 \neq \lfloor y \rfloor", "‖x‖_2 ≠ ⌊y⌋"),
        (r"\max\{a,b\}", "max{a,b}"),
        (r"1{,}000 \pm 5\,\%", "1,000 ± 5 %"),
        (r"\underset{x}{\arg\min} f", "arg min_x f"),
        (r"a\not= b", "a≠ b"),
        (r"\text{KL}(p\|q)", "KL(p‖q)"),
        (r"\unknown{x} + \other", r"\unknown x + \other"),
        (r"p \ll 0.05\label{eq:p}\tag{3}", "p ≪ 0.05 (3)"),
    ],
)
def test_a_formula_is_readable(source: str, text: str) -> None:
    assert readable_math(source) == text


@pytest.mark.parametrize("source", ["{" * 9000, r"\frac" * 9000, "x^" * 9000, r"\begin{matrix}" * 900, r"\sqrt[" * 900])
def test_a_very_deep_formula_ends(source: str) -> None:
    assert readable_math(source + "w")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"{\"O}zg{\"u}r and G\"{o}del", "Özgür and Gödel"),
        (r"{QLoRA}: Efficient {F}inetuning", "QLoRA: Efficient Finetuning"),
        (
            r"\'{e}t\'e, na{\"\i}ve, \v{S}koda, \c{c}a, \L{}ukasz, {\AA}ngstr{\"o}m",
            "été, naïve, Škoda, ça, Łukasz, Ångström",
        ),
        (r"$O(n^{2})$ time --- 1--2 ``fast''", "O(n^2) time — 1–2 “fast”"),
        (r"Knowledge \& Data, 5\%~of \emph{all}", "Knowledge & Data, 5% of all"),
        ("O'Brien\n  line", "O'Brien line"),
        ("\\", "\\"),
    ],
)
def test_titles_and_names_of_bibtex_are_plain_text(source: str, text: str) -> None:
    assert decode_latex(source) == text
