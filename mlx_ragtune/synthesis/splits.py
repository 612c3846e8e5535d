"""Pairs are split by paper: no paper is used both to train and to test the model. Or by row, for a single paper."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mlx_ragtune.records import Document, Pair, Split
from mlx_ragtune.synthesis.dedupe import normal_form
from mlx_ragtune.synthesis.paper_copies import copies_by_paper


def _hash(seed: int, *parts: str) -> str:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).hexdigest()


class _Union:
    """Disjoint sets of names, each identified by its smallest name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.parent = {name: name for name in names}

    def find(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def join(self, left: str, right: str) -> None:
        first, second = sorted((self.find(left), self.find(right)))
        self.parent[second] = first


def _components(units: Iterable[str], links: Counter[tuple[str, str]]) -> dict[str, list[str]]:
    union = _Union(units)
    for left, right in links:
        if left in union.parent and right in union.parent:
            union.join(left, right)
    members: dict[str, list[str]] = defaultdict(list)
    for unit in sorted(union.parent):
        members[union.find(unit)].append(unit)
    return members


def _held_out(sizes: Mapping[str, int], links: Counter[tuple[str, str]], wanted: int, seed: int) -> set[str]:
    """Units of about ``wanted`` papers in total that cut few synthesis pairs.

    Takes whole components of papers that synthesis pairs connect while they fit, then single units.
    """
    taken: set[str] = set()
    open_places = wanted
    components = _components(sizes, links)
    for name in sorted(components, key=lambda name: _hash(seed, "component", name)):
        size = sum(sizes[unit] for unit in components[name])
        if size <= open_places:
            taken.update(components[name])
            open_places -= size
    left = {unit for unit in sizes if unit not in taken and sizes[unit] <= max(open_places, 1)}
    joined: dict[str, Counter[str]] = defaultdict(Counter)
    for (left_unit, right_unit), count in links.items():
        joined[left_unit][right_unit] += count
        joined[right_unit][left_unit] += count

    def cost(unit: str) -> tuple[int, str]:
        cut = sum(-count if other in taken else count for other, count in joined[unit].items())
        return cut, _hash(seed, "unit", unit)

    while open_places > 0 and left:
        unit = min(left, key=cost)
        left.remove(unit)
        if sizes[unit] <= open_places or not taken:
            taken.add(unit)
            open_places -= sizes[unit]
    return taken


def _number(share: float, total: int) -> int:
    """``share`` of ``total``; at least one when the share is above 0 and there are two or more."""
    return max(round(share * total), 1) if share > 0 and total > 1 else 0


def _kept_back(split: Split, valid_share: float, units: int) -> int:
    """How many of the ``units`` a split must leave: one for training, and before validation one for that too."""
    return 2 if split == "test" and valid_share > 0 and units > 2 else 1


def _split_papers(
    pairs: Sequence[Pair], documents: Iterable[Document], valid_share: float, test_share: float, seed: int
) -> dict[str, Split]:
    texts = {paper: "" for pair in pairs for paper in pair.papers}
    texts |= {document.id: document.text for document in documents if document.id in texts}
    unit_of = copies_by_paper(texts)
    sizes: dict[str, int] = Counter(unit_of.values())
    links: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        units = sorted({unit_of[paper] for paper in pair.papers})
        links.update(itertools.combinations(units, 2))
    side: dict[str, Split] = {}
    shares: tuple[tuple[Split, float], ...] = (("test", test_share), ("valid", valid_share))
    for split, share in shares:
        rest = {unit: size for unit, size in sizes.items() if unit not in side}
        kept = _kept_back(split, valid_share, len(rest))
        wanted = min(_number(share, len(texts)), sum(rest.values()) - kept)
        side |= dict.fromkeys(_held_out(rest, links, wanted, seed), split)
    return {paper: side.get(unit, "train") for paper, unit in unit_of.items()}


def split_by_paper(
    pairs: Sequence[Pair],
    documents: Iterable[Document] = (),
    *,
    valid_share: float,
    test_share: float,
    seed: int,
) -> dict[str, Split]:
    """Pair id → split. Depends on the pairs and the seed, not on the order of the pairs.

    All pairs of one paper, and of its copies among ``documents``, are in one split; shares count
    papers. A synthesis pair whose papers are in two splits is **absent** from the result: the caller lists
    it as dropped. Pairs without a paper (off-corpus refusals) are divided by hash.
    """
    side = _split_papers(pairs, documents, valid_share, test_share, seed)
    splits: dict[str, Split] = {}
    for pair in pairs:
        sides = {side[paper] for paper in pair.papers}
        if len(sides) == 1:
            splits[pair.id] = sides.pop()
    free = sorted((pair.id for pair in pairs if not pair.papers), key=lambda name: _hash(seed, "pair", name))
    test, valid = _number(test_share, len(free)), _number(valid_share, len(free))
    for number, identifier in enumerate(free):
        splits[identifier] = "test" if number < test else "valid" if number < test + valid else "train"
    return splits


def same_material(pairs: Sequence[Pair]) -> dict[str, str]:
    """Pair id → name of its group: pairs that share an evidence quote or a question are in one group."""
    union = _Union(pair.id for pair in pairs)
    first: dict[str, str] = {}
    for pair in pairs:
        marks = [f"asks {normal_form(pair.question)}", *(f"quotes {item.paper} {item.quote}" for item in pair.evidence)]
        for mark in marks:
            union.join(first.setdefault(mark, pair.id), pair.id)
    return {pair.id: union.find(pair.id) for pair in pairs}


def split_by_row(groups: Mapping[str, str], *, valid_share: float, test_share: float, seed: int) -> dict[str, Split]:
    """Pair id → split, by the group of each pair: a group is in one split, shares count pairs.

    The first groups by hash are held out, as far as they fit; at least one group is left for training, and of
    three or more groups at least one for validation when ``valid_share`` is above 0.
    """
    sizes = Counter(groups.values())
    order = sorted(sizes, key=lambda name: _hash(seed, "group", name))
    side: dict[str, Split] = {}
    shares: tuple[tuple[Split, float], ...] = (("test", test_share), ("valid", valid_share))
    for split, share in shares:
        places = _number(share, len(groups))
        free = sorted((name for name in order if name not in side), key=lambda name: max(sizes[name] - places, 0))
        kept = _kept_back(split, valid_share, len(free))
        for name in free:
            first = split not in side.values()  # the smallest group does when none fits
            if places > 0 and len(side) + kept < len(sizes) and (sizes[name] <= places or first):
                side[name] = split
                places -= sizes[name]
    return {identifier: side.get(name, "train") for identifier, name in groups.items()}
