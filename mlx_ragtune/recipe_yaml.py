"""YAML as recipes are written in it: the traps of YAML 1.1 closed, every key with its line."""

import re
from typing import Any

import yaml


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-5` is a number, `no` is text. No aliases: a few of them can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises MarkedYAMLError for an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed in a recipe", problem_mark=mark)
        return super().compose_node(parent, index)


RecipeLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"null|~|", "n~"),
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    RecipeLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
RecipeLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])

Lines = dict[tuple[str | int, ...], int]


def plain(node: yaml.Node, at: tuple[str | int, ...], lines: Lines, problems: list[tuple[int, str]]) -> Any:
    """The value of a YAML node; fills in the lines of keys, and duplicates."""
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in mapping:
                first = lines[(*at, key)]
                problems.append((line, f"duplicate key '{key}' (first on line {first})"))
            lines[(*at, key)] = line
            mapping[key] = plain(value_node, (*at, key), lines, problems)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return tuple(plain(item, (*at, index), lines, problems) for index, item in enumerate(node.value))
    kind = node.tag.rsplit(":", 1)[-1]
    if kind == "float":
        return float(node.value)
    if kind == "int":
        return int(node.value)
    return {"true": True, "false": False}.get(node.value) if kind == "bool" else None if kind == "null" else node.value
