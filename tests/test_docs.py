"""The documentation: commands can be typed, links lead somewhere, and explained messages exist."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.recipe import Recipe, Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md"))]
GENERATED = {"commands.md"}
"""Written from ``--help``: its examples are checked as such."""
_FENCE = re.compile(r"^```(?P<kind>[\w ]*)\n(?P<body>.*?)^```", re.S | re.M)
_INLINE = re.compile(r"`(ragtune [^`]+|python (?:-m mlx_ragtune|benchmarks/)[^`]*)`")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def commands(page: Path) -> Iterator[str]:
    """Every command line of a page: in blocks without a language, and in the text."""
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        if fence["kind"].strip() in ("", "bash", "shell"):
            for line in fence["body"].splitlines():
                for part in re.split(r"\s&&\s", line):
                    if re.match(r"(?:\.venv/bin/)?(?:ragtune|make|python|uvx|pipx)\b", part.strip()):
                        yield part.strip()
    for command in _INLINE.findall(_FENCE.sub("", text)):
        if re.fullmatch(r"ragtune \S+", command):  # the name of a command in a sentence
            yield f"{command} --help"
        else:
            yield command


CASES = [(page, command) for page in PAGES if page.name not in GENERATED for command in commands(page)]


def words(command: str) -> list[str]:
    """The words of a command without its comment, and without what is optional (`[--quick]`)."""
    command = re.sub(r"\[[^\]]*\]", "", command.replace(r"\|", "|"))
    return shlex.split(command.replace("…", "X"), comments=True)


def problem(arguments: list[str]) -> str:
    """Why click would not accept the arguments of ``ragtune``; empty if it would. Nothing is run."""
    command: click.Command = main
    name, context = "ragtune", None
    try:
        while True:
            context = command.make_context(name, list(arguments), parent=context)
            rest = [*context._protected_args, *context.args]
            if not isinstance(command, click.Group) or not rest:
                return ""
            found, command_found, arguments = command.resolve_command(context, rest)
            assert found is not None
            assert command_found is not None
            name, command = found, command_found
    except click.exceptions.Exit:  # --help, --version
        return ""
    except click.ClickException as error:
        return error.format_message()


def named_recipes(arguments: list[str]) -> list[str]:
    """Recipes that the arguments name and that belong to the project."""
    own = {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    written = {"mine.yaml", "papers.yaml", "best.yaml"}
    return [
        word
        for word in arguments
        if re.fullmatch(r"recipes/[\w-]+\.yaml", word) and Path(word).name not in own | written
    ]


def test_what_cannot_be_typed_is_noticed() -> None:
    for wrong in ("runn x", "run", "run a --redo foo", "init a --bakend x", "sweep best", "run a b", "adapter a"):
        assert problem(wrong.split()), wrong
    assert not problem(["--help"])


def test_there_are_commands_to_check() -> None:
    assert len(CASES) > 80
    assert {"init", "draft", "run", "ask", "sweep", "review", "demo"} <= {words(command)[1] for _, command in CASES}


@pytest.mark.parametrize(("page", "command"), CASES, ids=[f"{page.stem}: {command[:60]}" for page, command in CASES])
def test_a_command_in_the_documentation_can_be_typed(page: Path, command: str) -> None:
    first, *rest = words(command)
    if first.endswith("ragtune"):
        assert not problem(rest)
        assert not named_recipes(rest)
    elif first == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif first in ("uvx", "pipx"):
        assert not problem(rest[rest.index("ragtune") + 1 :])
    elif rest[:1] == ["-m"]:
        assert rest[1] in ("mlx_ragtune", "mlx_lm", "venv", "pip", "pytest", "tests.message_list", "build")
    else:
        assert (ROOT / rest[0]).is_file()
        said = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert [word for word in rest[1:] if word.startswith("--") and word.split("=")[0] not in said] == []


QUICK = (
    "ragtune validate recipes/demo.yaml",
    "ragtune status recipes/demo.yaml",
    "ragtune validate recipes/smoke.yaml",
)


@pytest.mark.parametrize("command", QUICK)
def test_a_command_that_costs_little_is_really_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path))
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    monkeypatch.chdir(ROOT)
    files = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    arguments = [part for word in words(command)[1:] for part in (files if "*" in word else [word])]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output


def test_the_quick_start_works_as_it_is_written_up_to_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    shutil.copytree(ROOT / "data" / "rag_notes" / "papers", tmp_path / "papers")
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    lines = [words(line)[1:] for line in commands(ROOT / "README.md") if "recipes/mine.yaml" in line]
    assert [line[0] for line in lines[:3]] == ["init", "draft", "review"]
    init = [word.replace("~", str(tmp_path)) for word in lines[0]]
    assert CliRunner().invoke(main, [*init, "--base", "toy:qwen3"]).exit_code == 0
    assert CliRunner().invoke(main, ["corpus", "recipes/mine.yaml"]).exit_code == 0
    found = CliRunner().invoke(main, ["search", "recipes/mine.yaml", "What does QLoRA quantize?"])
    assert "qlora" in found.output.lower()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in _LINK.finditer(text):
        path, _, anchor = link["target"].partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link["target"])
    assert dead == []


def nav_pages(entry: object) -> Iterator[str]:
    """The files of the navigation."""
    if isinstance(entry, str):
        yield entry
    for part in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
        yield from nav_pages(part)


def test_every_page_is_in_the_navigation_and_the_navigation_has_no_other() -> None:
    listed = set(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    there = {page.name for page in DOCS.glob("*.md")}
    assert there == listed


def recipe_keys(model: type[Settings], at: str = "") -> Iterator[str]:
    """Every dotted key of a recipe, and every section."""
    for name, field in model.model_fields.items():
        place = f"{at}.{name}" if at else name
        yield place
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, Settings):
                yield from recipe_keys(part, place)


def test_every_recipe_key_that_a_page_names_exists() -> None:
    known = set(recipe_keys(Recipe))
    sections = {key.split(".")[0] for key in known}
    wrong = []
    for page in PAGES:
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`", page.read_text(encoding="utf-8")):
            file = re.search(r"\.(?:py|md|json|jsonl|yaml|gguf)$", name)
            if name.split(".")[0] in sections and name not in known and not file:
                wrong.append(f"{page.name}: {name}")
    assert wrong == []


def explained() -> list[str]:
    """The messages that the page on troubleshooting explains."""
    return re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("message", explained())
def test_a_message_that_is_explained_is_one_that_the_program_has(message: str) -> None:
    listed = (ROOT / "tests" / "messages.txt").read_text(encoding="utf-8")
    pattern = ".+?".join(re.escape(part) for part in message.split("…"))
    assert len(re.sub(r"\W|…", "", message)) > 10, "too little of it is fixed"
    assert re.search(pattern, listed)


def test_the_page_explains_messages_of_every_part() -> None:
    assert len(explained()) >= 25


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "troubleshooting.html").read_text(encoding="utf-8")
    assert "no Ollama server answers" in page
    outside = re.findall(r"(?:src|href)=\"(https?://[^\"]+\.(?:js|css|woff2?))\"", page)
    assert outside == [], "the site loads nothing from elsewhere"
