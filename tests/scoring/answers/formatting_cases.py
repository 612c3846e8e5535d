"""Nuggets with answers that state them in other notation, and answers that look alike but state another value."""

from typing import NamedTuple

from mlx_ragtune.records import Nugget


class Case(NamedTuple):
    """A nugget, answers that support it, and answers that do not (contradicted or not stated)."""

    nugget: Nugget
    supported: tuple[str, ...]
    not_supported: tuple[str, ...]


def _case(text: str, anchor: str, supported: tuple[str, ...], not_supported: tuple[str, ...]) -> Case:
    groups = tuple(tuple(alias.strip() for alias in group.split(" / ")) for group in anchor.split(" & "))
    return Case(Nugget(text, groups), supported, not_supported)


# Written before the code that reads values.
FIRST = (
    _case(
        "Memory falls to less than 48GB.", "48GB",
        ("It needs **48 GB**.", "It needs `48GB`.", "It needs $48\\,\\text{GB}$.", "It needs 48\u202fGB.",
         "It needs 48 gigabytes.", "It needs forty-eight gigabytes.", "It needs \\(48~\\mathrm{GB}\\).",
         "It fits in a 48-GB card.", "It needs 48.0 GB.", "It needs ４８GB.", "It needs 48,000 MB.",
         "It lies between 24 and 48GB.", "The limit, **48**\u00a0GB, is met.", "It needs 0.048 TB.",
         "Memory—48GB—is enough.", "| memory | 48GB |",
         "It needs no more than 48GB.", "It is not slow; it needs 48GB."),
        ("It needs 48 MB.", "It needs 4.8GB.", "It needs 480GB.", "It needs 148GB.", "It needs 48 GHz.",
         "It needs 48 layers.", "It is not true that it needs 48GB.", "It needs 24GB rather than 48GB.",
         "The claim that it needs 48GB is false.", "It never fits in 48GB.", "It needs 24GB, not 48GB.",
         "It needs 48 TB.", "It needs 24GB instead of 48GB.", "It needs ~~48GB~~ 24GB.",
         "Contrary to what the authors claim, it needs 48GB."),
    ),
    _case(
        "Agreement was 95%.", "95%",
        ("It was $95\\%$.", "It was 95.0%.", "It was 95 per cent.", "It was 0.95.", "It was ninety-five percent.",
         "It was 95\u2009%.", "It was 95％.", "It was \\textbf{95\\%}.", "A share of 0.950 agreed.",
         "Es waren 95,0 %."),
        ("It was 9.5%.", "It was 95.", "It was 0.95 GB.", "It was 0.095.", "It was −95%.", "It was 95.5%.",
         "It was 59%.", "Agreement of 95% is untrue.", "It was 0.95%."),
    ),
    _case(
        "The factor is 10,000.", "10,000",
        ("10000 times fewer.", "10 000 times fewer.", "10\u2009000 times fewer.", "10_000 times.", "10k times fewer.",
         "10 thousand times fewer.", "ten thousand times fewer.", "10{,}000 times fewer.", "$10^4$ times fewer.",
         "1e4 times fewer.", "10⁴ times fewer.", "1 × 10^4 times fewer.", "$1\\times 10^{4}$ fewer.",
         "10.000-mal weniger Parameter, was für die Praxis wichtig ist.",
         "10<sup>4</sup> times fewer.", "10'000 times."),
        ("1,000 times fewer.", "100,000 times fewer.", "10.000 times fewer than before in the run.",
         "10^5 times fewer.",
         "10^{-4} of it.", "10 times fewer.", "10k5 is the name.", "1000 0 times.", "10M times fewer."),
    ),
    _case(
        "The learning rate is 1e-4.", "1e-4",
        ("It is 0.0001.", "It is $10^{-4}$.", "It is 10⁻⁴.", "It is 1 × 10^-4.", "It is 1.0e-4.", "It is 1E-04.",
         "It is \\(1 \\cdot 10^{-4}\\).", "It is 1*10^-4.", "It is 10^−4.", "It is 0.1 × 10^-3."),
        ("It is 1e-5.", "It is 1e4.", "It is 10^4.", "It is 0.001.", "It is -0.0001.", "It is 2e-4.", "It is 10⁻⁵.",
         "It is 1.1e-4."),
    ),
    _case(
        "The correlation is 0.5.", "0.5",
        ("It is .5 in all runs.", "It is +0.5.", "It is 0.50.", "It is $0.5$.", "It is \\frac{1}{2}.", "It is 1/2.",
         "It is ½.", "From 0.3–0.5.", "It is one half.", "The value **0**.**5** was measured."),
        ("It is -0.5.", "It is −0.5.", "It is minus 0.5.", "It is $-0.5$.", "It is negative 0.5.", "It is 0.05.",
         "It is 5.", "It is 10.5.", "It is 0.5 GB.", "It is 0.51."),
    ),
    _case(
        "It has twelve layers.", "12 / twelve",
        ("12 layers.", "It has twelve layers.", "It has a dozen layers.", "**12** layers.", "It has 12.0 layers.",
         "十二层。", "１２ layers."),
        ("In 2012 it had layers.", "It has 0.12 layers.", "It has 120 layers.", "v12b is used.", "12GB of layers.",
         "It has 1.2 layers.", "It has −12 layers.", "twelfth layer", "12k layers"),
    ),
    _case(
        "The model has 65B parameters.", "65B",
        ("65 billion parameters.", "$65\\text{B}$ parameters.", "65-billion-parameter model.", "65bn parameters.",
         "65,000,000,000 parameters.", "LLaMA-65B is used.", "sixty-five billion parameters.",
         "6.5 × 10^10 parameters.",
         "65,000M parameters.", "0.065T parameters.", "65 Milliarden Parameter."),
        ("6.5B parameters.", "65M parameters.", "65 million parameters.", "650B parameters.", "65 parameters.",
         "65GB of memory.", "65 bytes."),
    ),
    _case(
        "Training took 2 hours.", "2 hours",
        ("It took two hours.", "It took 2 h.", "It took 2h.", "It took 2.0 hours.", "It took 120 minutes.",
         "It took 2 hrs.", "A 2-hour run.", "It took 7,200 seconds."),
        ("It took 2 minutes.", "It took 2 days.", "It took 12 hours.", "It took 2 seconds.", "It did not take 2 hours.",
         "It took 2."),
    ),
    _case(
        "F1 rises with beta.", "F1 & beta",
        ("F_1 rises with β.", "F₁ rises with $\\beta$.", "$F_{1}$ rises with beta.", "F-1 rises with β.",
         "**F1** rises with `beta`.", "\\(\\mathrm{F}_1\\) rises with \\beta."),
        ("F2 rises with beta.", "F1 rises with alpha.", "F_{10} rises with β.", "F1 rises with $\\alpha$."),
    ),
    _case(
        "Latency is 1,200 ms.", "1.2 s / 1,200 ms",
        ("1.2s.", "1200 milliseconds.", "1.2 seconds.", "1{,}200\\,ms.", "1.2k ms."),
        ("1.2 ms.", "1200 s.", "12 s.", "1.2 min."),
    ),
    _case(
        "Nothing is used without labels.", "without labels",
        ("It does not work without labels.", "Nothing is used **without** labels."), ("It works with labels.",),
    ),
    _case(
        "It beats GPT-4.", "GPT-4",
        ("It beats GPT‑4.", "It beats GPT4.", "It beats `GPT-4`.", "It not only ties with GPT-4 but beats it.",
         "It does not fail to beat GPT-4."),
        ("It beats GPT-3.", "It beats GPT-4.5.", "It beats GPT-40.", "It does not beat GPT-4.", "The 4 GPTs."),
    ),
)  # fmt: skip


# Written after the first version of that code, in other shapes, and tried once: see the note in test_formatting.
SECOND = (
    _case(
        "The batch size is 4,096.", "4096",
        ("Batch size: $4{,}096$", "batch_size = 4096", "a batch of 4,096 sequences", "2^12 sequences",
         "batch size **4 096**", "four thousand and ninety-six sequences", "(4096)", "4.096k sequences", "bs=4096;"),
        ("a batch of 4,095", "a batch of 409.6", "a batch of 40,96", "2^11 sequences", "sha 4096ab",
         "a batch of 14,096",
         "GPT-4096"),
    ),
    _case(
        "Weight decay is 0.01.", "0.01",
        ("weight decay of 1e-2", "weight decay $=10^{-2}$", "weight decay: 0.010", "\\lambda = 0.01",
         "10^(-2)? No: 0.01",
         "weight decay of one hundredth"),
        ("weight decay of 0.1", "weight decay of 1e-3", "weight decay of -0.01", "weight decay of 0.001", "v0.01b",
         "weight decay of 0.01.2"),
    ),
    _case(
        "BLEU improves by 2.4 points.", "2.4",
        ("+2.4 BLEU", "2.4-point gain", "an improvement of 2.40", "$\\Delta = 2.4$", "from 27.3 to 29.7 (+2.4)"),
        ("−2.4 BLEU", "a loss: -2.4", "24 BLEU", "BLEU does not improve by 2.4", "12.4 BLEU", "2.4 kB"),
    ),
    _case(
        "About one third of the tokens are masked.", "one third / 33%",
        ("1/3 of the tokens", "$\\frac{1}{3}$ of the tokens", "⅓ of tokens", "33 % of tokens", "a third of the tokens",
         "0.33 of the tokens"),
        ("2/3 of the tokens", "one fourth of the tokens", "the third token", "33 tokens", "3.3% of the tokens"),
    ),
    _case(
        "The context is 128k tokens.", "128k",
        ("128,000 tokens", "128 thousand tokens", "128K tokens", "0.128M tokens", "128 000 tokens", "12.8万 tokens"),
        ("128 tokens", "128M tokens", "12.8k tokens", "not a context of 128k", "1,280 tokens"),
    ),
    _case(
        "Der Fehler sank auf 1,5 %.", "1,5 %",
        ("Der Fehler sank auf 1,5%.", "Der Fehler ist 1.5 Prozent.", "Der Fehler sank auf $1{,}5\\,\\%$.",
         "nur 1,50 %"),
        ("Der Fehler sank auf 15 %.", "Der Fehler sank nicht auf 1,5 %.", "Der Fehler ist 1,05 %.",
         "Es ist nicht wahr, dass der Fehler auf 1,5 % sank."),
    ),
    _case(
        "训练用了48小时。", "48小时",
        ("训练用了48小时。", "训练用了４８ 小时。", "训练用了四十八小时。", "训练共计48 h。",
         "训练用了两天,即48小时。"),
        ("训练用了48分钟。", "训练用了4.8小时。", "训练没有48小时。", "训练用了148小时。"),
    ),
    _case(
        "99% of the weights stay unchanged.", "99%",
        ("99 % of the weights stay", "99.0 percent stay", "$99\\%$ stay unchanged", "99 percentage points"),
        ("it is false that 99% stay", "99% is simply wrong", "0.99% of the weights", "nobody claims that 99% stay",
         "99‰ of the weights", "a temperature of 0.99"),
    ),
)  # fmt: skip
