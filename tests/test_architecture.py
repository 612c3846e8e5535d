"""The rules of ``CONTRIBUTING.md``, each with its test."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.pipeline import STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlx_ragtune"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "records", "jsonl"),
    (
        "artifact",
        "bundled",
        "recipe",
        "recipe_data",
        "recipe_layers",
        "recipe_load",
        "recipe_sweep",
        "recipe_train",
        "recipe_types",
        "recipe_yaml",
        "run_folders",
    ),
    ("papers", "retrieval", "scoring", "models"),
    ("clients",),
    ("tuning", "gguf", "synthesis", "bases"),
    ("building", "evaluation", "reviewing", "searching", "sweeping"),
    ("answering",),
    ("pages",),
    ("stages", "commands"),
    (
        "pipeline",
        "runner",
        "cli",
        "cli_answers",
        "cli_bench",
        "cli_draft",
        "cli_generate",
        "cli_group",
        "cli_machines",
        "cli_mcp",
        "cli_models",
        "cli_options",
        "cli_push",
        "cli_review",
        "cli_runs",
        "cli_serve",
        "cli_sweep",
    ),
)
"""From the bottom up. Packages on one level do not import each other; single modules may, without a cycle."""


def level(package: str) -> int:
    return next(index for index, packages in enumerate(LEVELS) if package in packages)


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def nodes(module: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))


def imports(module: Path) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_package_has_a_level() -> None:
    assert len(MODULES) > 40
    known = {name for packages in LEVELS for name in packages}
    assert {package_of(module) for module in MODULES} - {"__init__", "__main__"} == known


def test_contributing_shows_these_levels() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]*) \|", text, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)/?`", row)) for row in rows] == [set(packages) for packages in LEVELS]


def is_module(package: str) -> bool:
    return (PACKAGE / f"{package}.py").exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(module: Path) -> None:
    mine = package_of(module)
    if mine in ("__init__", "__main__"):
        return
    for name in imports(module):
        if name.startswith("mlx_ragtune."):
            other = name.split(".")[1]
            if other != mine:
                sideways = level(other) == level(mine) and is_module(other) and is_module(mine)
                assert level(other) < level(mine) or sideways, f"{name} is not below {mine}"


def test_single_modules_of_a_level_form_no_cycle() -> None:
    singles = [name for packages in LEVELS for name in packages if is_module(name)]
    imported = {
        name: {part.split(".")[1] for part in imports(PACKAGE / f"{name}.py") if part.startswith("mlx_ragtune.")}
        for name in singles
    }
    for name in singles:
        for other in imported[name] & set(singles):
            assert name not in imported[other], f"{name} and {other} import each other"


def test_module_names_are_unique() -> None:
    """A module is found by its name alone; only a stage, its command and its tests share one."""
    stages = {stage.name for stage in STAGES}
    counts = Counter(module.stem for module in MODULES if module.stem not in {"__init__", *stages})
    assert not [name for name, count in counts.items() if count > 1]


def test_stages_do_not_import_each_other() -> None:
    for module in (PACKAGE / "stages").glob("*.py"):
        assert not [name for name in imports(module) if name.startswith("mlx_ragtune.stages")], module


def test_mlx_is_imported_in_one_module() -> None:
    runtime = PACKAGE / "clients" / "runtime_mlx.py"
    for module in MODULES:
        names = list(imports(module))
        direct = [name for name in names if name == "mlx" or name.startswith("mlx.")]
        assert not direct or module == runtime, module
        if any(name.startswith("mlx_lm") for name in names):
            text = module.read_text(encoding="utf-8")
            first = min(text.find(marker) % 10**9 for marker in ("clients.runtime_mlx", "# after: "))
            assert first < text.find("mlx_lm"), f"{module} imports mlx_lm before clients.runtime_mlx"


HEAVY = {"mlx", "mlx_lm", "numpy", "scipy", "transformers", "tokenizers", "pydantic", "yaml", "httpx", "rich", "gguf"}


LIST = "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after the code, packages' .pth files included."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stderr.strip().splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom mlx_ragtune.cli import main\n"
        f"try:\n    main({arguments!r}, prog_name='ragtune')\nexcept SystemExit:\n    pass\n" + LIST
    )
    loaded = modules_after(code)
    allowed = set(sys.stdlib_module_names) | {"click", "mlx_ragtune"} | modules_after("import sys\n" + LIST)
    assert not loaded & HEAVY
    assert not {name for name in loaded - allowed if not name.startswith("_")}


def test_stage_words_are_the_same_everywhere() -> None:
    help_text = CliRunner().invoke(main, ["--help"]).output
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    places = [help_text.index(f"\n  {stage.name} ") for stage in STAGES]
    assert places == sorted(places)
    for stage in STAGES:
        assert (PACKAGE / "stages" / f"{stage.name}.py").exists()
        assert stage.folder in readme


def functions(module: Path) -> Iterator[tuple[str, int, int, int]]:
    """(name, lines, positional parameters, all parameters) of each function; ``self`` and ``cls`` do not count."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            positional = len(names) - (names[:1] in (["self"], ["cls"]))
            name = f"{module.relative_to(PACKAGE).as_posix()}:{node.name}"
            yield name, (node.end_lineno or 0) - node.lineno + 1, positional, positional + len(node.args.kwonlyargs)


def test_nine_functions_in_ten_are_short() -> None:
    lengths = {name: length for module in MODULES for name, length, _, _ in functions(module)}
    assert sum(length < 45 for length in lengths.values()) >= 0.9 * len(lengths)
    assert {name: length for name, length in lengths.items() if length >= 90} == {}


def test_functions_take_at_most_five_positional_parameters() -> None:
    """What follows is keyword-only, so that a call can be read without the signature."""
    counts = {name: count for module in MODULES for name, _, count, _ in functions(module)}
    commands = {name for name in counts if name.startswith("cli")}  # click passes options by name
    assert {name: count for name, count in counts.items() if count > 5 and name not in commands} == {}


def test_modules_stay_readable() -> None:
    lengths = {module.name: len(module.read_text(encoding="utf-8").split("\n")) for module in MODULES}
    assert {name: length for name, length in lengths.items() if length > 520} == {}


def test_a_name_says_what_a_module_is_about() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "tools", "base", "core"}
    names = {part for module in MODULES for part in module.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & vague


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared(key: str) -> set[str]:
    """The distributions that pyproject.toml declares under a key of [project] or its optional dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["dependencies"] if key == "dependencies" else project["optional-dependencies"][key]
    matches = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in listed)
    return {normalized(match[0]) for match in matches if match}


def imported(modules: Iterable[Path]) -> dict[str, set[str]]:
    """The third-party packages that the modules import, each with the distributions that provide it."""
    providers = packages_distributions()
    names = {name.split(".")[0] for module in modules for name in imports(module)}
    ours = {"mlx_ragtune", "tests", "checks", "benchmarks", *sys.stdlib_module_names}
    return {name: set(map(normalized, providers.get(name, [name]))) for name in names - ours}


def test_every_imported_package_is_declared() -> None:
    missing = {name for name, providers in imported(MODULES).items() if not providers & declared("dependencies")}
    assert missing == set()
    others = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "checks").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    known = declared("dependencies") | declared("dev")
    unknown = {name for name, providers in imported(others).items() if not providers & known}
    assert unknown - {module.stem for module in others} == set()


def test_every_declared_dependency_is_imported() -> None:
    used = set[str]().union(*imported(MODULES).values())
    assert declared("dependencies") - used == set()


def test_every_environment_variable_is_documented() -> None:
    readme = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/environment.md"))
    read = {
        name
        for module in MODULES
        for name in re.findall(
            r"(?:environ\.get\(|environ\[|getenv\()\"([A-Z_]+)\"", module.read_text(encoding="utf-8")
        )
    }
    assert {"RAGTUNE_RUNS", "OLLAMA_HOST"} <= read
    assert {name for name in read if f"`{name}`" not in readme} == set()


def test_the_readme_tree_is_true() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"```\nmlx-ragtune/\n(.*?)```", readme, re.DOTALL)
    assert tree, "README.md has no tree"
    shown: list[str] = []
    parents: list[str] = []
    for line in tree[1].splitlines():
        match = re.match(r"^((?:│   |    )*)(?:├── |└── )(\S+)", line)
        assert match, line
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2].rstrip("/")]
        shown.append("/".join(parents))
    for path in shown:
        assert (ROOT / path).exists() or path == "runs", path
    listed = {path for path in shown if path.startswith("mlx_ragtune/")}
    real = {
        f"mlx_ragtune/{entry.name}"
        for entry in PACKAGE.iterdir()
        if entry.name not in ("__pycache__", "__init__.py") and (entry.is_dir() or entry.suffix == ".py")
    }
    assert listed == real


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listing.splitlines()]


def test_nothing_heavy_or_private_is_tracked() -> None:
    for path in tracked():
        if not path.is_file():
            continue
        assert path.stat().st_size < 2 * 2**20, path
        assert path.suffix not in {".gguf", ".safetensors", ".bin", ".pkl", ".pt"}, path
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert not re.search(r"(^|[^A-Za-z0-9_.])/(?:work|farm|root)/", text), f"{path} names a machine's path"


def test_constraints_are_versions_and_no_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 30
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9_.+!]+( *;.*)?", line), line
    pinned = {normalized(line.partition("==")[0]) for line in pins}
    assert (declared("dependencies") | declared("dev")) - pinned == set()
