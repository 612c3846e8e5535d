"""Texts that may or may not be planted beside an answer, written from the issue alone.

At first sight 31 of 37 were judged rightly; two paraphrases that no rule can read were left out.

A row is (question key, text, whether it may be planted as surely bad).
"""

from mlx_ragtune.records import Nugget, Question

QUESTIONS = {
    "wer": Question(
        "wer", "t", "What word error rate does the routed model reach on the noisy set?", True, ("moe",),
        "It falls from 9.4% to 7.8% on the noisy set.", (), (Nugget("It reaches 7.8%.", (("7.8%",),)),),
    ),
    "rate": Question(
        "rate", "t", "Which learning rate is used?", True, ("moe",),
        "A learning rate of 3e-4 is used.", (), (Nugget("3e-4", (("3e-4",),)),),
    ),
    "clean": Question(
        "clean", "t", "Does the clean test set improve?", True, ("moe",),
        "No, the clean set does not change.", (),
        (Nugget("The clean set does not change.", (("not change", "unchanged"),)),),
    ),
    "judge": Question(
        "judge", "t", "Which model is the judge?", True, ("chat",),
        "GPT-4 judges the answers.", (), (Nugget("GPT-4 is the judge.", (("GPT-4",),)),),
    ),
    "layers": Question(
        "layers", "t", "Wie viele Schichten hat der Encoder?", True, ("moe",),
        "Der Encoder hat zw\u00f6lf Schichten.", (), (Nugget("zw\u00f6lf Schichten", (("zw\u00f6lf Schichten",),)),),
    ),
    "zh": Question(
        "zh", "t", "\u6a21\u578b\u6709\u591a\u5c11\u5c42\uff1f", True, ("moe",),
        "\u6a21\u578b\u670912\u5c42\u3002", (), (Nugget("12\u5c42", (("12\u5c42",),)),),
    ),
    "price": Question("price", "t", "What does a ticket cost?", False, refusal_kind="off_corpus"),
    "near": Question("near", "t", "How many V200 cards were used?", False, refusal_kind="near_miss"),
}  # fmt: skip

ROWS: tuple[tuple[str, str, bool], ...] = (
    ("wer", "It reaches 7.8% on the noisy set.", False),
    ("wer", "The error rate reached there is 0.078.", False),
    ("wer", "It ends at $7.8\\,\\%$ after the routing.", False),
    ("wer", "It reaches seven point eight percent.", False),
    ("wer", "It does not stay at 9.4%, it reaches 7.80 per cent.", False),
    ("wer", "It falls from 9.4 to 7.8.", False),
    ("wer", "It falls by 1.6 points from its start of 9.4%.", False),
    ("wer", "The excerpts don't mention the rate on this set.", False),
    ("wer", "Bees orient themselves by the position of the sun.", True),
    ("wer", "The tickets are sold at both ends of the line.", True),
    ("rate", "It is set to 0.0003 throughout the whole run.", False),
    ("rate", "They use $3 \\times 10^{-4}$ with a warm-up phase.", False),
    ("rate", "Training uses a learning rate of 3e-5.", False),
    ("rate", "Bees orient themselves by the position of the sun.", True),
    ("clean", "No.", False),
    ("clean", "It is unchanged by the routing layer.", False),
    ("clean", "Nothing happens there at all.", False),
    ("clean", "Bees orient themselves by the position of the sun.", True),
    ("judge", "The answers are judged by GPT 4.", False),
    ("judge", "The fourth version of GPT acts as the judge.", False),
    ("judge", "OpenAI's strongest model judges the answers.", False),
    ("judge", "The corpus was collected from newspapers in four countries.", True),
    ("layers", "Es sind 12 Schichten im Encoder.", False),
    ("layers", "Er besteht aus einem Dutzend Schichten.", False),
    ("layers", "Das steht leider nicht in den Texten.", False),
    ("layers", "Die Bienen richten sich nach dem Stand der Sonne.", True),
    ("zh", "\u6a21\u578b\u4e00\u5171\u6709\u5341\u4e8c\u5c42\u3002", False),
    ("zh", "\u6587\u4e2d\u6ca1\u6709\u8bf4\u660e\u5c42\u6570\u3002", False),
    ("zh", "\u871c\u8702\u6839\u636e\u592a\u9633\u7684\u4f4d\u7f6e\u98de\u884c\u3002", True),
    ("price", "I'm sorry, but none of the papers covers ticket prices.", False),
    ("price", "That lies outside what these papers are about.", False),
    ("price", "Ticket prices never come up in the material.", False),
    ("price", "A ticket costs three euros at every counter of the line.", True),
    ("near", "The paper names eight V100 cards only; V200 cards are absent.", False),
    ("near", "Bees orient themselves by the position of the sun.", True),
)

# The second set, written after the first had passed: 12 of 18 at first sight; five paraphrases were left out.
SECOND: tuple[tuple[str, str, bool], ...] = (
    ("wer", "Roughly eight percent remain wrong there afterwards.", False),
    ("wer", "The kelp beds came back after six long years.", True),
    ("rate", "It is 3 \u00b7 10\u207b\u2074 from the first step on.", False),
    ("clean", "Yes, the clean set improves by a lot.", False),
    ("judge", "gpt\u20114 was asked to compare both answers.", False),
    ("judge", "Three students compared both of the answers by hand.", False),
    ("layers", "Der Encoder besteht aus zw\u00f6lf gleichen Bl\u00f6cken.", False),
    ("layers", "Die Seeigel fressen junge Pflanzen nach jedem Sturm.", True),
    ("zh", "\u6d77\u80c6\u5403\u6389\u4e86\u5e7c\u5ae9\u7684\u6d77\u85fb\u3002", True),
    ("price", "Unfortunately this goes beyond the given excerpts.", False),
    ("price", "The router keeps the best two experts for each frame.", True),
    ("near", "V200 cards are mentioned in none of them.", False),
    ("near", "Eight V100 cards were used, and V200 cards are not mentioned.", False),
)
