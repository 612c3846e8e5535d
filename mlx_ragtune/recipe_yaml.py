"""The text of a recipe as a mapping, with the line of every key and every value.

The YAML that recipes are written in is YAML 1.2 with the core types and no aliases. Whatever cannot be read
becomes a problem with its line; nothing here raises anything but RecipeError.
"""

import difflib
import ipaddress
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from mlx_ragtune.errors import RecipeError

MAX_BYTES = 256 * 1024
"""Largest recipe that is read."""
MAX_DEPTH = 32
"""Deepest nesting of lists and mappings."""
MAX_PROBLEMS = 100
"""Most problems that are listed."""
MAX_DIGITS = 30
"""Most digits of an integer."""

Place = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Origin:
    """Where a key or a value was written; printed as ``file:line``.

    ``layer`` is 0 in the recipe itself, 1 in the recipe that it extends, and so on, and -1 on the command line.
    ``where`` is the file as the user named it, or the option. ``line`` counts from 1; 0 is no line. ``source`` is the
    resolved path of the file, where relative paths start.
    """

    layer: int
    where: str
    line: int
    source: Path = field(compare=False)

    def __str__(self) -> str:
        return f"{self.where}:{self.line}" if self.line else self.where


Origins = dict[Place, Origin]
"""Where each key and value was written, by its place in the recipe."""
Problems = list[tuple[Origin, str]]
"""What is wrong: where, and the description."""


@dataclass(frozen=True)
class Written:
    """A recipe as it was written. ``broken`` are the places whose value could not be read."""

    start: Origin
    value: dict[str, Any] = field(default_factory=dict)
    origins: Origins = field(default_factory=dict)
    problems: Problems = field(default_factory=list)
    broken: set[Place] = field(default_factory=set)

    def origin(self, key: str) -> Origin:
        """Where a dotted key was written, or the nearest section around it that is there."""
        return self.nearest(tuple(int(part) if part.isdigit() else part for part in key.split(".")))

    def nearest(self, place: Place) -> Origin:
        """Where a place was written, or the nearest place around it that is there."""
        while place not in self.origins and place:
            place = place[:-1]
        return self.origins.get(place, self.start)

    def get(self, key: str) -> Any:
        """What the recipe says for a dotted key, or None."""
        value: Any = self.value
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def setting(self, model: Any, key: str) -> Any:
        """What the recipe says for a dotted key, or the default of the schema ``model``. None without either."""
        value: Any = self.value
        for part in key.split("."):
            info = model.model_fields[part]
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif hasattr(value, part):
                value = getattr(value, part)
            else:
                value = None if info.is_required() else info.default
            model = next(models_in(info.annotation), None)
        return value

    def refuse(self, at: Place, line: int, problem: str) -> None:
        """Note that the value at a place, written on a line, cannot be used."""
        self.problems.append((replace(self.start, line=line), problem))
        self.broken.add(at)


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SCALARS: dict[str, tuple[str, str]] = {
    "null": (r"null|~|", "n~"),
    "bool": (r"true|false", "tf"),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
}
_TAG = "tag:yaml.org,2002:"
AS_WRITTEN = {("corpus", "arxiv")}
"""Keys whose numbers are text: as a number, 2305.14310 would lose its last digit."""


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-5` is a number, `no` is text. Aliases are refused: a few can expand to gigabytes."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises MarkedYAMLError for an alias and for nesting deeper than MAX_DEPTH."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed in a recipe", problem_mark=mark)
        if self.depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


RecipeLoader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _SCALARS.items():
    RecipeLoader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
RecipeLoader.add_implicit_resolver(_TAG + "null", re.compile("^$"), [""])


def read_recipe(path: Path, *, shown: str = "", layer: int = 0) -> Written:
    """The mapping in a recipe file, its lines, and what is wrong with single keys and values.

    ``shown`` is its path in messages, ``layer`` that of ``Origin``. Raises RecipeError for a file that cannot be read,
    or whose YAML cannot be parsed.
    """
    node = _node(_text(path), lambda line, problem: _refuse(path, line, problem))
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(
            "not a recipe: expected keys and values", where=f"{path}:1", fix="write a new recipe: ragtune init FOLDER"
        )
    written = Written(Origin(layer, shown or str(path), 1, path.resolve()))
    value = _value(node, (), written)
    if isinstance(value, dict):
        written.value.update(value)
    return written


def _node(text: str, refuse: Callable[[int, str], NoReturn]) -> yaml.Node | None:
    """The only document of a YAML text; ``refuse`` is called with the line and the problem when there is none."""
    loader: RecipeLoader | None = None
    try:
        loader = RecipeLoader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        refuse(line, f"control character U+{error.character:04X} is not allowed")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be parsed"
        if "single document" in (error.context or ""):
            problem = "more than one document ('---') in the file"
        refuse(mark.line + 1 if mark else 1, problem)
    except (ValueError, OverflowError, RecursionError) as error:  # such as the escape "\UFFFFFFFF"
        refuse(loader.line + 1 if loader else 1, str(error))
    return node


def read_value(text: str, *, where: str, key: str = "") -> Any:
    """The value of a dotted key, as it would stand in a recipe. Raises RecipeError if it cannot be read."""

    def refuse(_line: int, problem: str) -> NoReturn:
        raise RecipeError(f"not valid YAML: {problem}", where=where, fix="quote the value, as in --set 'KEY=\"VALUE\"'")

    node = _node(text, refuse)
    if node is None:
        return None
    written = Written(Origin(-1, where, 0, Path()))
    value = _value(node, tuple(key.split(".")), written)
    if written.problems:
        raise RecipeError(written.problems[0][1], where=where, fix="correct the value of --set")
    return value


def is_plain_text(text: str) -> bool:
    """Whether a text needs no quotes in YAML to be read as that text, as far as numbers, true, false and null go."""
    return bool(text) and not any(re.fullmatch(pattern, text) for pattern, _ in _SCALARS.values())


def _refuse(path: Path, line: int, problem: str) -> NoReturn:
    raise RecipeError(
        f"not valid YAML: {problem}", where=f"{path}:{line}",
        fix=f"edit {shlex.quote(str(path))}, then: ragtune validate {shlex.quote(str(path))}",
    ) from None  # fmt: skip


def _text(path: Path) -> str:
    """The text of a recipe. Raises RecipeError for what is not a readable UTF-8 file of a sensible size."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise RecipeError(
                f"cannot be read: {kind}, expected a recipe file", where=str(path), fix="give the path of a .yaml file"
            )
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(
            "cannot be read: no such file",
            where=str(path),
            fix="correct the path, or write a recipe: ragtune init FOLDER",
        ) from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(
            f"cannot be read: {problem}", where=str(path), fix="check the path and its permissions"
        ) from None
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"larger than {MAX_BYTES // 1024} KiB", where=str(path), fix="give the path of a recipe, not of a data file"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"not UTF-8: byte 0x{data[error.start]:02x}", where=f"{path}:{line}", fix="save the file as UTF-8"
        ) from None


def _value(node: yaml.Node, at: Place, written: Written) -> Any:
    """The value of a YAML node; notes the lines of its keys, and what is wrong with them."""
    line = node.start_mark.line + 1
    written.origins.setdefault(at, replace(written.start, line=line))
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, at, written)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return tuple(_value(item, (*at, index), written) for index, item in enumerate(node.value))
    if isinstance(node, yaml.ScalarNode) and at[:2] in AS_WRITTEN and kind in ("int", "float"):
        kind = "str"
    if isinstance(node, yaml.ScalarNode) and (kind == "str" or kind in _SCALARS):
        return _scalar(kind, node.value, at, written)
    written.refuse(at, line, f"tag '{node.tag.replace(_TAG, '!!')}' is not allowed in a recipe; remove the tag")
    return None


def _mapping(node: yaml.MappingNode, at: Place, written: Written) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            written.refuse(at, line, "a list or a mapping cannot be a key")
            continue
        key = str(key_node.value)
        if key == "<<":
            written.refuse(at, line, "merge keys ('<<') are not allowed in a recipe; write the keys out")
            continue
        if key in mapping:
            first = written.origins[(*at, key)].line
            written.problems.append(
                (replace(written.start, line=line), f"duplicate key '{key}' (first on line {first})")
            )
        written.origins[(*at, key)] = replace(written.start, line=line)
        mapping[key] = _value(value_node, (*at, key), written)
    return mapping


def _scalar(kind: str, text: str, at: Place, written: Written) -> Any:
    line = written.origins[at].line
    if kind == "str":
        if control := CONTROL.search(text):
            written.refuse(at, line, f"control character U+{ord(control[0]):04X} is not allowed")
        return text
    if not re.fullmatch(_SCALARS[kind][0], text):
        if kind != "null" or text:
            written.refuse(at, line, f"tag '!!{kind}' does not fit the value {text!r:.60}; remove the tag")
        return None
    if kind == "int":
        if len(text) > MAX_DIGITS:
            written.refuse(at, line, f"a number of {len(text)} digits is too long (at most {MAX_DIGITS})")
            return None
        return int(text)
    if kind == "float":
        return float(text)
    return text == "true" if kind == "bool" else None


SYNONYMS = {
    "batch": "batch_size", "chunk_overlap": "overlap_tokens", "chunk_size": "chunk_tokens",
    "chunk_words": "chunk_tokens", "ctx_size": "context_tokens", "decay": "weight_decay",
    "grad_accumulation": "accumulation",
    "gradient_accumulation_steps": "accumulation", "gradient_checkpointing": "grad_checkpoint", "k": "top_k",
    "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_layers": "layers", "lora_rank": "rank",
    "lr": "learning_rate", "max_seq_length": "max_tokens", "num_ctx": "context_tokens", "num_epochs": "epochs",
    "num_layers": "layers", "num_predict": "max_tokens", "optim": "optimizer", "papers": "folder",
    "quantisation": "type", "quantise": "type", "quantization": "type", "quantize": "type", "questions": "benchmark",
    "r": "rank", "repetition_penalty": "repeat_penalty", "temp": "temperature", "use_rslora": "rank_stabilized",
}  # fmt: skip
"""Other names of recipe keys, of other tools or in British spelling, for a suggestion."""

UNITS = {"chunk_words": " A word of a paper has about 1.8 tokens"}
"""What to know of a key whose value has another unit in the one that replaced it."""

_EXPECTED = {
    "bool_type": "input should be true or false",
    "dict_type": "input should be a section with keys",
    "model_type": "input should be a section with keys",
    "path_type": "input should be a path",
    "string_type": "input should be text",
    "tuple_type": "input should be a list",
}


def models_in(annotation: Any) -> Iterator[Any]:
    """The settings classes in a type annotation."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


def _all_keys(model: Any, parents: Place = ()) -> Iterator[Place]:
    for name, info in model.model_fields.items():
        inner = next(models_in(info.annotation), None)
        yield (*parents, name)
        if inner is not None:
            yield from _all_keys(inner, (*parents, name))


def _suggestion(key: str, parents: Place, model: Any) -> str:
    """The end of the message about an unknown key: the key that was meant, or the known ones."""
    places = [place for place in _all_keys(model) if place != ("name",)]
    known = [str(place[-1]) for place in places if place[:-1] == parents]
    name = SYNONYMS.get(key, key)
    near = [name] if name in known else difflib.get_close_matches(key, known, n=1)
    if not near:
        near = [".".join(map(str, place)) for place in places if place[-1] == name]
    if not near:
        everywhere = {str(place[-1]): ".".join(map(str, place)) for place in places}
        near = [everywhere[match] for match in difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)]
    return f", did you mean '{near[0]}'?{UNITS.get(key, '')}" if near else f" (known: {', '.join(known)})"


def without_credentials(text: str) -> str:
    """The text with the user and the password of a URL replaced by ``***``."""
    return re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)


def _shown(value: object, place: Place) -> str:
    """A value as it is shown in a message."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = without_credentials(text)
    if "host" in place or "hosts" in place:  # the scheme may be missing
        text = re.sub(r"[^/\"']*@", "***@", text, flags=re.DOTALL)
    return text if len(text) <= 60 else text[:59] + "…"


def describe_errors(errors: ValidationError, written: Written, model: Any) -> Problems:
    """The errors of the schema in plain words, each with its line; the branches of a union make one problem."""
    messages: dict[tuple[Place, str], list[str]] = {}
    shown: dict[tuple[Place, str], str] = {}
    problems: Problems = []
    for error in errors.errors():
        place: Place = error["loc"]
        while place and place not in written.origins:  # a union adds its branch, a missing key has no line
            place = place[:-1]
        origin = written.nearest(place)
        path = ".".join(str(part) for part in error["loc"])
        if any(place[: len(broken)] == broken for broken in written.broken) or error["loc"] == ("name",):
            continue
        if error["type"] == "extra_forbidden":
            *parents, last = error["loc"]
            hint = _suggestion(str(last), tuple(parents), model) if len(problems) < MAX_PROBLEMS else ""
            problems.append((origin, f"unknown key '{path}'{hint}"))
        elif error["type"] == "missing":
            problems.append((origin, f"missing key '{path}'"))
        else:
            message = error["msg"].removeprefix("Value error, ")
            expected = _EXPECTED.get(error["type"], message[0].lower() + message[1:])
            key = (place, ".".join(str(part) for part in place))
            messages.setdefault(key, []).append(expected)
            shown[key] = _shown(error["input"], place)
    for (place, path), expected_ones in messages.items():
        what = " or ".join(dict.fromkeys(expected_ones))
        problems.append((written.nearest(place), f"{path}: {what}, not {shown[(place, path)]}"))
    return problems


def problems_error(path: Path, problems: Problems) -> RecipeError:
    """The error that lists the problems of a recipe in the order of their lines."""
    distinct = sorted(set(problems))
    listing = "\n".join(f"  {origin}: {what}" for origin, what in distinct[:MAX_PROBLEMS])
    if len(distinct) > MAX_PROBLEMS:
        listing += f"\n  and {len(distinct) - MAX_PROBLEMS} more"
    files = dict.fromkeys(shlex.quote(origin.where) for origin, _ in distinct if origin.line)
    edit = f"edit {', '.join(files)}, then: ragtune validate {shlex.quote(str(path))}"
    return RecipeError(
        f"{len(distinct)} problem{'s' * (len(distinct) > 1)} in the recipe:\n{listing}",
        fix=edit if files else "correct the value of --set; docs/recipe.md lists the keys",
    )


def host_problem(host: str) -> str | None:
    """What is wrong with the address of a server, or None. The text never holds the credentials of the address."""
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        name, port = parts.hostname or "", parts.port
        if ":" in name:
            ipaddress.IPv6Address(name.partition("%")[0])
        else:
            name.encode("idna")
    except ValueError:  # UnicodeError and AddressValueError are ValueErrors too
        name, port, parts = "", None, urlsplit("")
    if "@" in host:
        return (
            "credentials do not belong in a recipe; remove them, and set the environment variable "
            "OLLAMA_HOST=http://USER:PASSWORD@HOST:PORT"
        )
    sound = parts.scheme in ("http", "https") and name and not parts.netloc.endswith(":")
    if not sound or port == 0 or re.search(r"[\s\\<>\"'`{}|^?#]", host) or ("://" not in host and "/" in host):
        return f"{host!r:.80} is not the address of a server; write http://HOST:PORT, such as http://127.0.0.1:11434"
    return None


def absolute_path(written: str, folder: Path) -> Path:
    """The path that a recipe in ``folder`` means by ``written``; ``~`` is the home folder. Links are not followed."""
    path = Path(written).expanduser() if written.startswith("~") else Path(written)
    return Path(os.path.normpath(folder / path))


def path_problem(written: str, *, folder: Path, project: Path, kind: Literal["file", "folder", "model"]) -> str | None:
    """What is wrong with a path in a recipe, or None.

    A relative path starts at ``folder`` and stays in the project or the home folder. An absolute path may be
    anywhere, and so may the target of a link in the home folder: both are choices of the user, not of the recipe.
    """
    try:
        target = absolute_path(written, folder)
        if not Path(written).is_absolute() and not _stays_inside(target, project):
            return (
                f"'{written}' is outside the project ({project}) and the home folder; "
                "to use files elsewhere, write the absolute path"
            )
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"'{written}' does not exist ({target})"
    except OSError as error:
        return f"'{written}' cannot be used: {error.strerror}"
    except (ValueError, RuntimeError) as error:
        return f"'{written}' cannot be used: {error}"
    if kind == "folder" and not stat.S_ISDIR(mode):
        return f"'{written}' is not a folder ({target})"
    if kind == "file" and not stat.S_ISREG(mode):
        return f"'{written}' is not a file ({target})"
    return None


def project_folder(recipe: Path) -> Path:
    """The folder that a recipe's relative paths must stay inside."""
    for folder in recipe.parents:
        if any((folder / mark).exists() for mark in (".git", "pyproject.toml", "recipes")):
            return folder
    return recipe.parent


def _stays_inside(target: Path, project: Path) -> bool:
    homes = {Path.home(), Path.home().resolve()}
    if any(target.is_relative_to(home) for home in homes):
        return True
    resolved = target.resolve()
    return target.is_relative_to(project) and any(resolved.is_relative_to(folder) for folder in {project, *homes})


HOSTS = ("register.host", "retrieval.embedding.host", "scoring.judge.host", "scoring.similarity.host")


def host_problems(written: Written) -> Iterator[tuple[str, str]]:
    """The addresses of servers that cannot be used, by key."""
    hosts = written.get("dataset.generator.hosts")
    named = (
        {f"dataset.generator.hosts.{index}": host for index, host in enumerate(hosts or ())}
        if isinstance(hosts, tuple)
        else {}
    )
    for key, host in {**named, **{key: written.get(key) for key in HOSTS}}.items():
        if isinstance(host, str) and (problem := host_problem(host)):
            yield key, problem


def name_problem(path: Path) -> str | None:
    """What is wrong with the name of the recipe file, or None."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", path.stem):
        return None
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:64] or "recipe"
    return (
        f"the file name '{path.stem}' cannot name a run: use up to 64 lowercase letters, digits, '_' and '-'; "
        f"rename the file, for example to '{name}.yaml'"
    )
