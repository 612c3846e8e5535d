"""How many pairs pass the checks, why the others do not, and how many planted faults are caught.

    python benchmarks/pair_checks.py                                        # the bundled pairs
    python benchmarks/pair_checks.py --pairs pairs.jsonl --papers papers.jsonl [--benchmark benchmark.jsonl]

``--pairs`` holds rows as ``dataset.pairs`` does, ``--papers`` rows with ``id``, ``title`` and ``text``: what was shown
to the writer of the pairs. Every pair is repaired and checked as a generated one, with and without the repairs. Then a
fault is planted into each accepted answerable pair, one kind after the other; it is repaired and checked again:

    invented quote      an evidence quote that is a sentence of another paper
    changed number      one number of the answer, outside of titles, with another value
    other paper         the title of another paper in place of its own, or beside it
    leaked prompt       a part of a prompt, or a further turn, before, within or behind the answer
    benchmark question  a question of the benchmark in place of the pair's
    benchmark answer    a reference of the benchmark behind the answer

A fault is caught when the pair is rejected. The choice of what is planted depends on the pair's id only.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.jsonl import read_dicts, read_rows, to_json
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import Pair
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.scoring.answers.normalize import sentences, words
from mlx_ragtune.synthesis.benchmark_guard import BenchmarkGuard
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, read_view
from mlx_ragtune.synthesis.checks import check_pair
from mlx_ragtune.synthesis.corpus_titles import OTHER_PAPER, CorpusTitles
from mlx_ragtune.synthesis.gate import row_fault
from mlx_ragtune.synthesis.generator_prompts import RULES
from mlx_ragtune.synthesis.generator_prompts import SYSTEM as WRITER
from mlx_ragtune.synthesis.repairs import repair_pair

NOTES = Path(__file__).parents[1] / "data" / "rag_notes"
ACCEPTED = ""
_TITLED = re.compile(r"[\"“][^\"“”\n]{3,300}[\"”]")
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-]|[.,]\d)")


@dataclass(frozen=True)
class Paper:
    """What a pair was written on."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Checker:
    """Judges pairs as generated ones are judged, without a model."""

    papers: Mapping[str, Paper]
    guard: BenchmarkGuard
    titles: CorpusTitles

    def reason(self, pair: Pair, *, repair: bool = True) -> tuple[str, Pair, tuple[str, ...]]:
        """Why the pair is rejected ("" if it is not), the pair after its repairs, and their names."""
        shown = [self.papers[paper] for paper in pair.papers]
        sources, titles = {one.id: one.text for one in shown}, {one.id: one.title for one in shown}
        names: tuple[str, ...] = ()
        if repair:
            repaired = repair_pair(pair, list(titles.values()), list(sources.values()))
            pair, names = repaired.pair, repaired.repairs
        reason = row_fault(pair) or check_pair(pair, sources, titles)
        if not reason and pair.kind != "refusal":
            text = "\n".join([pair.question, *sources.values()])
            reason = OTHER_PAPER if self.titles.others(pair.answer, list(titles.values()), lambda: text) else None
        return reason or self.guard.reason(pair) or ACCEPTED, pair, names


Plant = Callable[[Pair, random.Random], Pair | None]
"""The pair with a fault; None where the fault has no place in it."""


def plants(papers: Mapping[str, Paper], benchmark: BenchmarkView) -> dict[str, Plant]:
    """The faults by name."""
    others = sorted(papers)

    def another(pair: Pair, chance: random.Random) -> Paper:
        titles = {papers[paper].title for paper in pair.papers}
        return papers[chance.choice([name for name in others if papers[name].title not in titles])]

    def quote(pair: Pair, chance: random.Random) -> Pair | None:
        long = [part for part in sentences(another(pair, chance).text) if len(part) > 40]
        if not long or not pair.evidence:
            return None
        wrong = replace(pair.evidence[0], quote=chance.choice(long))
        return replace(pair, evidence=(wrong, *pair.evidence[1:]))

    def title(pair: Pair, chance: random.Random) -> Pair | None:
        own, wrong = f'"{papers[pair.papers[0]].title}"', f'"{another(pair, chance).title}"'
        ways = (
            pair.answer.replace(own, wrong),
            f"{pair.answer} This is reported in {wrong}.",
            pair.answer.replace(own, f"{own} and {wrong}", 1),
            pair.answer.replace(own, f"the paper {wrong[1:-1]}"),
        )
        return replace(pair, answer=chance.choice(ways)) if own in pair.answer else None

    def leak(pair: Pair, chance: random.Random) -> Pair | None:
        text = chance.choice(LEAKS).format(question=pair.question, title=papers[pair.papers[0]].title)
        first = sentences(pair.answer)[0]
        ways = (f"{text} {pair.answer}", f"{pair.answer} {text}", pair.answer.replace(first, f"{first} {text}", 1))
        return replace(pair, answer=chance.choice(ways))

    def asked(pair: Pair, chance: random.Random) -> Pair | None:
        return replace(pair, question=chance.choice(benchmark.questions)) if benchmark.questions else None

    def reference(pair: Pair, chance: random.Random) -> Pair | None:
        long = [text for text in benchmark.references if len(words(_TITLED.sub("", text))) >= 12]
        return replace(pair, answer=f"{pair.answer} {chance.choice(long)}") if long else None

    return {
        "invented quote": quote,
        "changed number": _other_number,
        "other paper": title,
        "leaked prompt": leak,
        "benchmark question": asked,
        "benchmark answer": reference,
    }


LEAKS = (
    SYSTEM,
    sentences(SYSTEM)[1],
    sentences(SYSTEM)[-1],
    WRITER,
    *RULES["grounded"][:3],
    "Question: {question} Answer: It is as stated above.",
    "User: {question}\nAssistant: It is as stated above.",
    'Papers:\n\n[1] "{title}"\nThe method is described in detail in the first part.',
    "<|im_end|>\n<|im_start|>user\n{question}",
    "<think>The user asks about the method.</think>",
)


def _other_number(pair: Pair, chance: random.Random) -> Pair | None:
    """The pair with one number of its answer, outside of quoted titles, changed in one digit."""
    titled = [match.span() for match in _TITLED.finditer(pair.answer)]
    places = [
        match
        for match in _NUMBER.finditer(pair.answer)
        if not any(start <= match.start() < end for start, end in titled)
    ]
    if not places:
        return None
    match = chance.choice(places)
    at = chance.choice([position for position in range(*match.span()) if pair.answer[position].isdigit()])
    digit = str((int(pair.answer[at]) + chance.randint(1, 8)) % 9 + 1)
    if digit == pair.answer[at]:
        digit = str(int(digit) % 9 + 1)
    return replace(pair, answer=pair.answer[:at] + digit + pair.answer[at + 1 :])


def measure(checker: Checker, pairs: Sequence[Pair], benchmark: BenchmarkView) -> dict[str, Any]:
    """Reasons by kind before and after the repairs, repairs by kind, and planted and caught faults."""
    before: dict[str, Counter[str]] = defaultdict(Counter)
    after: dict[str, Counter[str]] = defaultdict(Counter)
    repairs: dict[str, Counter[str]] = defaultdict(Counter)
    accepted: list[Pair] = []
    for pair in pairs:
        before[pair.kind][checker.reason(pair, repair=False)[0]] += 1
        reason, repaired, names = checker.reason(pair)
        after[pair.kind][reason] += 1
        repairs[pair.kind].update(names)
        if not reason and pair.kind != "refusal":
            accepted.append(repaired)
    faults = {name: _planted(checker, accepted, plant) for name, plant in plants(checker.papers, benchmark).items()}
    return {"before": before, "after": after, "repairs": repairs, "faults": faults}


def _planted(checker: Checker, accepted: Sequence[Pair], plant: Plant) -> dict[str, Any]:
    planted, missed = 0, []
    for pair in accepted:
        faulty = plant(pair, random.Random(pair.id))
        if faulty is not None and faulty != pair:
            planted += 1
            if not checker.reason(faulty)[0]:
                missed.append(faulty)
    return {"planted": planted, "caught": planted - len(missed), "missed": missed}


def _notes() -> list[Paper]:
    documents = (open_paper(path, id=path.stem).document for path in sorted((NOTES / "papers").glob("*.md")))
    return [Paper(document.id, document.title, document.text) for document in documents]


def _print(results: Mapping[str, Any]) -> None:
    for kind, reasons in results["after"].items():
        total, first = sum(reasons.values()), results["before"][kind]
        print(
            f"{kind}: {total} pairs; accepted without repairs {first[ACCEPTED]}, with repairs {reasons[ACCEPTED]}",
            end="",
        )
        print(f" ({reasons[ACCEPTED] / total:.1%})")
        for reason in sorted({*first, *reasons} - {ACCEPTED}, key=lambda reason: -first[reason]):
            print(f"  {first[reason]:>5} → {reasons[reason]:<5} {reason}")
        for name, count in results["repairs"][kind].most_common():
            print(f"        {count:<5} repaired: {name}")
    print("fault                planted  caught")
    for name, row in results["faults"].items():
        share = f"{row['caught'] / row['planted']:.1%}" if row["planted"] else "-"
        print(f"{name:<20} {row['planted']:>7}  {row['caught']:>6}  {share}")


def main() -> None:
    """Print the yields and the detection of planted faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=Path, default=NOTES / "pairs.jsonl", help="JSONL file of pairs")
    parser.add_argument("--papers", type=Path, help="JSONL file with id, title and text of the papers")
    parser.add_argument("--benchmark", type=Path, default=NOTES / "benchmark.jsonl", help="benchmark file")
    parser.add_argument("--missed", type=int, default=0, metavar="N", help="print so many missed faults of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    papers = [Paper(**row) for row in read_dicts(arguments.papers)] if arguments.papers else _notes()
    benchmark = read_view(arguments.benchmark)
    checker = Checker(
        {paper.id: paper for paper in papers}, BenchmarkGuard(benchmark), CorpusTitles(paper.title for paper in papers)
    )
    results = measure(checker, list(read_rows(arguments.pairs, Pair)), benchmark)
    for name, row in results["faults"].items():
        for pair in row["missed"][: arguments.missed]:
            print(f"missed {name}: {pair.question} | {pair.answer} | {[item.quote for item in pair.evidence]}")
        row["missed"] = [pair.id for pair in row["missed"]]
    print(to_json(results)) if arguments.json else _print(results)


if __name__ == "__main__":
    main()
