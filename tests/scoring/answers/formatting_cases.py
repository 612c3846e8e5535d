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


# Attacks on the second version of that code, which judged 346 of 382 rightly at first.
THIRD = (
    _case(
        "Memory falls to less than 48GB.", "48GB",
        ("Not only does memory fall, it falls to 48GB.",
         "Without paging, it needs 48GB.", "Unlike full fine-tuning, QLoRA needs only 48GB.",
         "It isn't 24GB but 48GB.", "It is 48GB, not 24GB.", "There's no question that 48GB suffice.",
         "It cannot be denied that 48GB suffice.", "It is not false that it needs 48GB.",
         "Contrary to popular belief, 48GB suffice.",
         "Contrary to the claim that 24GB suffice, 48GB are needed.", "48Gb of memory", "48GBs of VRAM",
         "48 gb", "48-gigabyte card", "RTX A6000 (48GB)", "<48GB", "≤48 GB", "~48GB", "~ 48 GB",
         "780GB→48GB", "780GB -> 48GB", "780 GB/48 GB", "from 780 to 48 GB", "- 48GB", "* 48GB",
         "Memory: 48GB.", "48GB.", "“48GB”", "[48GB]", "memory=48GB", "48GB-GPU", "48 GB/GPU", "48GB+",
         "48 GB (1)", "$48 GB$", "$48$ GB", "$48$GB", "\\SI{48}{GB}", "$$48\\ \\mathrm{GB}$$",
         "\\[48\\,GB\\]", "**48** GB", "__48 GB__", "***48 GB***", "`48` GB", "48&nbsp;GB", "48 <b>GB</b>",),
        ("I don't think that it needs 48GB.", "48GB is incorrect; it is 24GB.",
         "The paper does not claim that 48GB suffice.", "The figure of 48GB is wrong.",
         "No, it isn't 48GB.", "It needs anything but 48GB.", "Memory falls not to 48GB but to 24GB.",
         "It is untrue that memory falls to 48GB.",
         "Memory falls to 48GB, contrary to what the authors say.", "It needs 48 GiB.",
         "about 48 G of memory", "-48GB", "48GB1",),
    ),
    _case(
        "A merged model has no additional inference latency.", "inference latency",
        ("It doesn't increase inference latency.", "It adds zero inference latency.",
         "There is never any inference latency.", "Zero additional inference latency is introduced.",
         "It avoids inference latency.", "free of inference latency",),
        ("It is not true that it has no inference latency.", "Inference latency is unaffected.",),
    ),
    _case(
        "The pre-trained weights are frozen.", "weights & frozen / fixed",
        ("The weights do not fail to stay frozen.", "Rather than being updated, the weights are frozen.",
         "The weights are frozen, not updated.", "No weights are updated; the weights are frozen.",),
        ("The weights aren't frozen.", "weights are by no means frozen",),
    ),
    _case(
        "It works without labels.", "labels",
        ("It needs no labels.", "No labels are needed.", "Labels aren't required.",
         "It works even without any labels.",),
        ("Labels are required.", "It does not work without labels.",),
    ),
    _case(
        "Accuracy improves.", "accuracy & improves / rises / increases",
        ("Accuracy not only improves but doubles.",
         "Accuracy does not improve until epoch 3, then it improves.",
         "There is no doubt that accuracy improves.", "Without regularization, accuracy improves.",),
        ("Accuracy never improves.",),
    ),
    _case(
        "The learning rate is 2e-5.", "2e-5",
        ("2 × 10⁻⁵", "2·10^{-5}", "$2\\times10^{-5}$", "0.00002", "2E-05", "20e-6", "2.0e-5", "2 x 10^-5",
         "2*10**-5", "2⋅10⁻⁵", "lr=2e-5", "2e−5", "2e–5", "\\(2 \\times 10^{-5}\\)", "2 × 10−5",),
        ("2e5", "2e-4", "-2e-5", "12e-5",),
    ),
    _case(
        "It took 35 minutes.", "35 minutes",
        ("35min", "35 mins", "thirty-five minutes", "35-minute run", "2,100 seconds", "in under 35 minutes",),
        ("35 hours", "0.58 h", "35′", "135 minutes", "35.5 minutes",),
    ),
    _case(
        "Rank 8 is enough.", "rank 8 / rank of 8",
        ("rank-8", "rank of 8", "rank $8$", "rank eight", "rank 8.0", "Rank **8**",),
        ("rank 80", "rank −8",),
    ),
    _case(
        "β is 0.1.", "β = 0.1 / beta of 0.1 / β is 0.1",
        ("$\\beta = 0.1$", "beta = .1", "β=0.10", "beta of 1/10",),
        ("α = 0.1", "β = -0.1",),
    ),
    _case(
        "It has 0.1% of the parameters.", "0.1%",
        ("0.001 of the parameters", "0.10 %", "0.1 percentage points", "1‰", "about 0.1\\%",),
        ("1%", "0.1", "one tenth of a percent",),
    ),
    _case(
        "It scores 56% on GSM8K.", "56%",
        ("56 per cent", "0.56", "56% accuracy", "fifty-six percent", ".56", "56,0 %",),
        ("56.0", "56/100", "5.6%", "alpha=0.56", "-56%", "156%",),
    ),
    _case(
        "It uses Llama 2.", "Llama 2",
        ("Llama-2", "LLaMA2", "Llama 2 7B", "Llama-2-7b", "**Llama 2**",),
        ("Llama 2.1", "Llama 20",),
    ),
    _case(
        "There are 7 heads.", "7",
        ("seven heads", "7 heads", "7.", "(7)", "7-head attention", "5, 7 and 9",),
        ("27 heads", "0.7", "GPT-7", "7th", "VII", "7/8", "7,000", "7 000", "3,7", "Table 7b",),
    ),
    _case(
        "The range is 1% to 2%.", "1-2% / 1% to 2%",
        ("1–2%", "1 to 2 percent", "1%-2%", "$1\\text{--}2\\%$", "between 1% and 2%",),
        ("1% and 2%",),
    ),
    _case(
        "Training is twice as fast.", "twice / 2x",
        ("2×", "two times faster", "2-fold", "twofold", "a factor of 2", "a factor of two",
         "$2\\times$ faster",),
        ("20x",),
    ),
    _case(
        "It has 1.2 million rows.", "1.2 million",
        ("1.2M rows", "1,200,000", "1.2 Mio. Zeilen", "1,2 Millionen Zeilen", "1200k rows", "120万",
         "1.2 m rows", "1.200.000 Zeilen und mehr, die nicht gezählt sind",),
        ("1.2B",),
    ),
    _case(
        "The correlation is -0.3.", "-0.3",
        ("−0.3", "$-0.3$", "minus 0.3", "r = –0.3", "-0.30",),
        ("0.3", "1-0.3",),
    ),
    _case(
        "Cost is $5 per run.", "$5",
        ("5 dollars", "US$5", "\\$5", "5 USD", "$5 and $6",),
        ("€5", "$50",),
    ),
    _case(
        "Temperature is 20 °C", "20 °C",
        ("20°C", "20 degrees", "$20^{\\circ}$C",),
        ("−20 °C",),
    ),
    _case(
        "The gain is 3.5 points.", "3.5",
        ("a 3.5-point gain", "gains of 3.5pp", "3.5 F1 points", "3.50",
         "3,5 Punkte sind es und das ist viel", "+3.5", "3.5x", "§3.5",),
        ("35 points", "13.5", "Llama-3.5",),
    ),
    _case(
        "It was trained on 11 trillion tokens.", "11 trillion / 11T",
        ("11T tokens", "$11$ trillion", "11 × 10^12", "11,000 billion", "1.1 × 10^{13}", "eleven trillion",),
        ("11 billion", "1.1 trillion", "11 Billionen",),
    ),
    _case(
        "There are eight distractors.", "eight / 8",
        ("eight", "8 paragraphs", "**eight**", "8.0", "eight-fold",),
        ("eighteen", "80", "eighty", "eight hundred", "eight thousand", "twenty-eight",),
    ),
    _case(
        "It appeared in 2023.", "2023",
        ("in 2023", "2,023", "(2023)", "May 2023.", "2022-2023",),
        ("2023a", "arXiv:2023.12345", "'23",),
    ),
    _case(
        "La précision est de 1,5 %.", "1,5 %",
        ("La précision est de 1,5 %.", "La précision est de 1,5%.", "1.5 pour cent",),
        ("elle est de 15 %", "La précision n'est pas de 1,5 %.",
         "Il est faux que la précision soit de 1,5 %.",),
    ),
    _case(
        "Es gibt 1.000 Proben.", "1.000",
        ("Es gibt 1000 Proben.", "Es gibt 1 000 Proben.", "Es sind 1.000,0 Proben.",),
        ("Es gibt tausend Proben.", "Es gibt 1,000 Proben.", "Es gibt keine 1.000 Proben.",
         "Es gibt 10.000 Proben.",),
    ),
    _case(
        "学習率は0.001です。", "0.001",
        ("学習率は0.001である。", "学習率は１０⁻³です。", "学習率は1e-3です。",),
        ("学習率は0.01です。", "学習率は0.001ではない。",),
    ),
    _case(
        "정확도는 95%이다.", "95%",
        ("정확도는 95%이다.", "정확도는 95 퍼센트이다.", "정확도는 0.95이다.",),
        ("정확도는 95%가 아니다.", "정확도는 9.5%이다.",),
    ),
    _case(
        "准确率为95%。", "95%",
        ("准确率为95%。", "准确率达到９５％。", "准确率为百分之九十五。", "准确率为0.95。",),
        ("准确率不是95%。", "准确率为59%。", "准确率为95%,这是错误的。",),
    ),
    _case(
        "六分钟", "六分钟",
        ("海鸥在渡轮之前6分钟离开。", "海鸥在渡轮之前六分钟离开。", "6 分钟",),
        ("十六分钟", "六十分钟", "六小时",),
    ),
    _case(
        "Die Gewichte werden eingefroren.", "Gewichte & eingefroren",
        ("Die Gewichte sind eingefroren.",
         "Die Gewichte werden nicht nur eingefroren, sondern quantisiert.",),
        ("Die Gewichte werden nicht eingefroren.",),
    ),
    _case(
        "sechs Minuten", "sechs Minuten",
        ("Die Möwen verlassen den Schlafplatz sechs Minuten vor der ersten Fähre.", "6 Minuten davor",
         "6 Min.",),
        ("sechs Stunden", "sechzig Minuten",),
    ),
    _case(
        "The kernel is 3x3.", "3x3 / 3×3",
        ("a 3×3 kernel", "a 3x3 kernel", "$3\\times3$", "3 × 3", "3 by 3",),
        ("5x5", "3x5",),
    ),
    _case(
        "Cost is O(n^2).", "O(n^2) / O(n²)",
        ("$O(n^2)$", "O(n²)", "$\\mathcal{O}(n^{2})$",),
        ("O(n^3)", "O(n)", "O(n2)",),
    ),
    _case(
        "It uses CO2.", "CO2",
        ("CO₂", "CO2", "CO_2", "$\\mathrm{CO}_2$", "CO<sub>2</sub>",),
        ("CO",),
    ),
    _case(
        "Area is 10 m^2", "10 m^2",
        ("10 m²", "10 m^2",),
        ("10 m",),
    ),
    _case(
        "It uses version 1.2.3.", "1.2.3",
        ("1.2.3",),
        ("version 1.2", "v1.2.3", "1.2.30",),
    ),
    _case(
        "Judges are DeBERTa-v3-Large.", "DeBERTa-v3-Large",
        ("DeBERTa-v3-Large", "DeBERTa v3 large", "`DeBERTa-v3-large`",),
        ("DeBERTa-v2-Large",),
    ),
    _case(
        "phi-1 wins", "phi-1",
        ("phi-1", "Phi 1", "φ-1",),
        ("phi-1.5", "phi-2",),
    ),
    _case(
        "pass@1 is used", "pass@1",
        ("pass@1", "**pass@1**", "$\\text{pass}@1$",),
        ("pass@10",),
    ),
    _case(
        "It needs one GPU.", "one GPU / single GPU",
        ("1 GPU", "one GPU", "a single GPU", "1 GPUs",),
        ("11 GPUs", "no GPU",),
    ),
    _case(
        "p < 0.05", "p < 0.05 / 0.05",
        ("p < .05", "p<0.05",),
        ("p < 0.5", "5%",),
    ),
    _case(
        "O(1)", "O(1) / Θ(1)",
        ("Θ(1)", "\\Theta(1)", "$\\mathcal{O}(1)$",),
        ("O(10)",),
    ),
    _case(
        "It scales as 1/n.", "1/n / n^-1",
        ("$1/n$", "$\\frac{1}{n}$", "n⁻¹", "$n^{-1}$", "1/n^2",),
        ("2/n",),
    ),
    _case(
        "One third is used.", "one third",
        ("one third", "1/3", "a third", "one-third", "$\\tfrac13$",),
        ("two thirds",),
    ),
    _case(
        "They cannot be verified.", "cannot be verified",
        ("cannot be verified", "Extrinsic ones can't be verified.",),
        ("It is not true that they cannot be verified.",
         "They can be verified.",),
    ),
    _case(
        "The encoder is not updated.", "not updated / fixed",
        ("It is not updated.", "It stays fixed.",),
        ("It is updated.", "It is false that it is not updated.",),
    ),
    _case(
        "They were too weak.", "insufficient / not sufficient",
        ("These are not sufficient.", "These are insufficient.",),
        ("It is false that these are insufficient.",),
    ),
    _case(
        "512 tokens", "512 tokens",
        ("512 tokens", "0.512k tokens", "512-token",),
        ("5,12 tokens",),
    ),
    _case(
        "Batch size 32", "batch size 32 / batch size of 32",
        ("a batch size of 32", "batch size: 32", "batch size = 32",),
        ("32-bit batch size",),
    ),
)  # fmt: skip


# Held out too, on other subjects: 98 of 101 right at first, 52 of 101 with phrases instead of values.
FOURTH = (
    _case(
        "The sonar has a beam of 12 degrees.", "12 degrees",
        ("a 12° beam", "a 12-degree beam", "$12^\\circ$", "twelve degrees",),
        ("120 degrees", "1.2°",),
    ),
    _case(
        "Yield rose by 9%.", "9%",
        ("nine percent more", "9 % higher in year two", "+9%", "0.09 of the yield",),
        ("9-fold", "yield fell; a rise of 9% was not seen", "19%",),
    ),
    _case(
        "20 tonnes of dust per hectare were used.", "20 tonnes",
        ("20 t per hectare", "20,000 kg per hectare", "twenty tonnes", "20t/ha",),
        ("20 kg", "2 tonnes",),
    ),
    _case(
        "Tiles are fired at 1,050 °C.", "1,050",
        ("1050 °C", "1 050 °C", "1.05k °C", "$1{,}050^{\\circ}\\mathrm{C}$",),
        ("105 °C", "10,50", "They are never fired at 1,050 °C.",),
    ),
    _case(
        "Gulls leave six minutes before the ferry.", "six minutes",
        ("6 min before", "**six** minutes before", "6 minutes", "360 seconds before", "0.1 h before",),
        ("sixteen minutes", "six hours",),
    ),
    _case(
        "Red lamps attract half as many moths.", "half",
        ("half of them", "half as many",),
        ("It is wrong that they attract half as many.",),
    ),
    _case(
        "The wavelength is 0.5 µm.", "0.5 µm",
        ("500 nm", "0.5 μm", "$0.5\\,\\mu\\text{m}$", "0.5 micrometers", "5 × 10^-7 m",),
        ("0.5 mm",),
    ),
    _case(
        "It runs at 2.4 GHz.", "2.4 GHz",
        ("2400 MHz", "2.4GHz",),
        ("2.4 MHz", "24 GHz",),
    ),
    _case(
        "pH rises by 0.6.", "0.6",
        ("by 0.60", "by .6",),
        ("by −0.6", "from 5.0 to 5.6", "60%",),
    ),
    _case(
        "Eleven of the sixty nights were lost.", "eleven / 11 & sixty / 60",
        ("11 of 60 nights", "11/60 nights", "eleven of sixty", "60 of 11",),
        ("1 of 60",),
    ),
    _case(
        "p is 3e-7.", "3e-7",
        ("$3 \\times 10^{-7}$", "0.0000003", "3×10⁻⁷",),
        ("3e-8", "3e7",),
    ),
    _case(
        "Dust is ground to 80 microns.", "80 microns",
        ("80 µm", "0.08 mm", "eighty microns",),
        ("80 mm",),
    ),
    _case(
        "The effect is -1.2 kg.", "-1.2 kg",
        ("−1.2 kg", "a change of -1.2kg", "minus 1.2 kg", "-1,200 g",),
        ("+1.2 kg",),
    ),
    _case(
        "LoRA alpha is 32.", "alpha & 32",
        ("α = 32", "$\\alpha=32$", "\\(\\alpha\\) is thirty-two",),
        ("β = 32", "α = 3.2", "lora_alpha=32",),
    ),
    _case(
        "The vocabulary has 32,000 entries.", "32,000",
        ("32k entries", "32 thousand", "32000",),
        ("32", "32,768",),
    ),
    _case(
        "Training cost 3.1 × 10^23 FLOPs.", "3.1 × 10^23",
        ("3.1e23 FLOPs", "3.1·10²³", "31 × 10^22",),
        ("3.1 × 10^22",),
    ),
    _case(
        "Rye flour had no effect.", "rye & effect",
        ("Rye flour did not have any effect.", "The effect of rye was nil, i.e. there was no effect.",),
        ("Rye flour had a large effect.", "It is not true that rye flour had no effect.",),
    ),
    _case(
        "The context window is 8,192 tokens.", "8192",
        ("8,192-token window", "2^13 tokens", "8.192 Tokens sind es, die in das Fenster passen",),
        ("8K tokens",),
    ),
    _case(
        "It costs 0.02 dollars per query.", "0.02 dollars / $0.02",
        ("$0.02 per query", "US$ 0.02",),
        ("2 cents", "€0.02",),
    ),
    _case(
        "Sampling uses temperature 0.7.", "0.7",
        ("T=0.7", "temperature of .7",),
        ("70%", "0.07",),
    ),
)  # fmt: skip


# Whole answers with negations: 75 of 89 right at first, 68 of 89 with phrases instead of values.
FIFTH = (
    _case(
        "Memory falls to less than 48GB.", "48GB",
        ("Memory drops dramatically: full fine-tuning takes >780 GB, whereas QLoRA gets by with <48 GB.",
         "It can't run on 24GB; 48GB is required.", "You do not need 780GB, since 48GB suffices.",
         "You don't need more than 48GB.", "It never exceeds 48GB.", "It does not exceed 48GB.",
         "The memory isn't 780GB any more, it is 48GB.", "Memory stays below 48GB, without any loss.",
         "48GB, which isn't much, suffices.", "48GB is not a lot.", "48GB does the job.",
         "One does not have to buy more than one 48GB GPU.",
         "It doesn't require more memory than a single 48 GB GPU offers.",
         "No GPU with more than 48GB is needed.", "Nothing beyond 48GB is needed.",),
        ("48GB? No, it is 24GB.", "Not 48GB.", "It is 24GB (not 48GB).", "The answer is not 48GB.",
         "48GB is not enough.", "48GB isn't correct.", "It would not fit into 48GB.",
         "I disagree that 48GB are enough.", "Some say 48GB, but that is wrong.",),
    ),
    _case(
        "The model was trained on 20 of 25 datasets.", "20 / twenty",
        ("20/25", "twenty of the twenty-five", "20 out of 25 datasets", "80% (20 of 25)",),
        ("on 25 of 25", "2.0 of 25", "on 120",),
    ),
    _case(
        "Query encoder and generator are trained.", "query encoder & generator",
        ("The query encoder and the generator are trained, the document encoder is not.",
         "Both the *query encoder* and the *generator*.",),
        ("Neither the query encoder nor the generator is trained.",),
    ),
    _case(
        "The encoder of the documents stays fixed.", "document encoder & fixed / not updated / frozen",
        ("The document encoder is not updated.", "The document encoder isn't trained; it is kept frozen.",
         "The document encoder does not change, i.e. stays fixed.",),
        (),
    ),
    _case(
        "It needs no human references.", "human reference",
        ("It doesn't need human references.", "Human references aren't needed.",
         "There is no need for human references.",
         "It requires no gold answers, no labels and no human references whatsoever.",),
        ("It dispenses with human references.", "It needs human references.",),
    ),
    _case(
        "Accuracy was 12% and 4%.", "12% & 4%",
        ("$12\\%$ and $4\\%$", "12 % and 4 %", "0.12 and 0.04", "12 and 4 percent",
         "twelve and four per cent", "Only 12% and 4%, not 70% and 68%.",),
        ("12% and 40%", "70% and 68%, not 12% and 4%.",),
    ),
    _case(
        "GPT-3 has 175B parameters.", "GPT-3 & 175B",
        ("GPT-3 (175B)", "GPT‑3, with 175 billion parameters", "GPT3-175B", "GPT-3 175 B",),
        ("GPT-3.5 with 175B", "GPT-3 with 1.75B",),
    ),
    _case(
        "A starts at random, B at zero.", "random & zero / 0",
        ("A ~ N(0, σ²) at random, B = 0", "random; B is zero", "random, B is $0$",),
        ("random; B is 0.5", "random; B is one",),
    ),
    _case(
        "RAGAS needs no labels.", "labels",
        ("RAGAS works without labels.", "RAGAS does not depend on labels.",
         "Labels are not something RAGAS needs.",),
        ("RAGAS is label-free.", "RAGAS needs labels.",),
    ),
    _case(
        "LoRA adds no latency, unlike adapters.", "latency",
        ("There's no latency overhead.", "Latency isn't increased, unlike with adapters.",
         "Unlike adapters, LoRA adds no latency.", "LoRA does not introduce additional latency.",),
        ("Unlike adapters, LoRA adds latency.",),
    ),
    _case(
        "They were too weak.", "insufficient / not sufficient / not enough",
        ("All of them are insufficient.", "They are not sufficient.",
         "They do not suffice; they're not enough.",),
        (),
    ),
    _case(
        "Ratio is 16.", "16",
        ("λ = 16", "2⁴", "16×", "16:1", "16-fold", "16%",),
        ("1/16", "16GB", "16-bit", "fp16", "1.6", "H16", "2016",),
    ),
)  # fmt: skip
