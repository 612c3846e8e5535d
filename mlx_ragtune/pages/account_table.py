"""The account of a data set as a table: how many rows were read, left out for each reason, and kept."""

from collections.abc import Mapping
from typing import Any

from mlx_ragtune.pages.tables import render_table

_KINDS = ("grounded", "synthesis", "refusal")


def account_table(account: Mapping[str, Any]) -> str:
    """The part ``account`` of ``statistics.json`` in at most 80 columns, by kind."""
    kinds = [kind for kind in _KINDS if account["read"].get(kind) or account["made"].get(kind)]

    def line(label: str, counts: Mapping[str, int]) -> list[str]:
        return [label, str(sum(counts.values())), *(str(counts.get(kind, 0)) for kind in kinds)]

    splits = {split: counts for split, counts in account["kept"].items() if counts}
    kept = {kind: sum(counts.get(kind, 0) for counts in splits.values()) for kind in kinds}
    rows = [line("read", account["read"])]
    if account["made"]:
        rows.append(line("added", account["made"]))
    rows += [line(f"left out: {reason}", counts) for reason, counts in account["left_out"].items()]
    rows.append(line("kept", kept))
    rows += [line(f"  {split}", counts) for split, counts in splits.items()]
    if account["repaired"]:
        rows.append(line("repaired", account["repaired"]))
    return render_table(["rows", "all", *kinds], rows)
