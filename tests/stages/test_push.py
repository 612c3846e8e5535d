"""``ragtune push`` on a finished run: shown before it is sent, nothing private in it, and usable from the hub again."""

import json
import platform
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.cli import main
from mlx_ragtune.clients.gguf_header import read_header
from mlx_ragtune.clients.hub_upload import HubFile
from mlx_ragtune.commands.push import private_texts, require_nothing_private
from mlx_ragtune.errors import InputError
from mlx_ragtune.models.adapter_files import read_adapter
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.runner import import_gguf, open_recipe
from tests.clients.hub_server import HubStandIn, hub_standin
from tests.stages.project import Done, edit, ragtune, recipe_of, rows

pytestmark = pytest.mark.filterwarnings("ignore:.*upload raw bytes.*:DeprecationWarning")  # of the hub's own client
TOKEN = "hf_abcdefghijklmnop"
KINDS = ("adapter", "fused", "gguf")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_standin(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


@pytest.fixture(autouse=True)
def toy(private_cache: None) -> None:
    """The base of the finished run, in the cache of this session."""
    resolve_base(BaseModelSettings(model="toy:qwen3"), import_gguf=import_gguf)


def online(*arguments: str | Path, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    """As ``ragtune``, with downloads and uploads."""
    monkeypatch.delenv("RAGTUNE_OFFLINE", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    with chdir(cwd):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def test_without_yes_nothing_is_sent_and_everything_is_shown(finished: Path, hub: HubStandIn) -> None:
    done = ragtune("push", recipe_of(finished), "ada/small", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    for name in ("README.md", "adapter_config.json", "adapter_model.safetensors", "ragtune.json", "all files"):
        assert name in done.stdout
    assert "| Correct facts |" in done.stdout
    assert "from_adapter: hf:ada/small" in done.stdout
    assert "nothing was uploaded; add --yes to upload to a private repository" in done.stdout
    assert (
        json.loads(ragtune("push", recipe_of(finished), "ada/small", "--json", cwd=finished).stdout)["uploaded"] is None
    )


@pytest.mark.parametrize("what", KINDS)
def test_nothing_private_is_in_what_is_sent(
    what: str, finished: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("push", recipe_of(finished), "ada/small", "--what", what, "--yes", "--license", "apache-2.0")
    done = online(*arguments, cwd=finished, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    assert f"uploaded: {hub.endpoint}/ada/small" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    repository = hub.repositories["ada/small"]
    assert repository.private
    sent = b"\0".join([*hub.bodies, *repository.files.values()])
    pairs, questions = rows(finished / "pairs.jsonl"), rows(finished / "benchmark.jsonl")
    documents = rows(finished / "runs" / "small" / "1-corpus" / "documents.jsonl")
    private = [
        str(finished),
        str(Path.home()) + "/",
        "pairs.jsonl",
        "benchmark.jsonl",
        *(row["path"] for row in documents),
    ]
    private += [row["title"] for row in documents if len(row["title"]) > 8]
    private += [row[key] for row in (*pairs, *questions) for key in ("question", "answer") if row.get(key)]
    private += [document["text"][at : at + 60] for document in documents for at in (0, 500, 1000)]
    if len(platform.node()) > 5:
        private.append(platform.node())
    assert len(private) > 100
    assert [text for text in private if text.encode() in sent] == []
    weights = {"adapter": "adapter_model.safetensors", "fused": "model.safetensors", "gguf": "small-Q8_0.gguf"}[what]
    assert set(repository.files) > {"README.md", "ragtune.json", weights}
    assert b"license: apache-2.0" in repository.files["README.md"]


def test_a_private_text_in_a_file_stops_everything(finished: Path, tmp_path: Path) -> None:
    """Planted in the head of weights, in a GGUF's metadata, and in a text: a path, a title, a question, a file name."""
    run = open_recipe(recipe_of(finished), {})
    texts = list(private_texts(run))
    documents = rows(finished / "runs" / "small" / "1-corpus" / "documents.jsonl")
    title = max((row["title"] for row in documents), key=lambda title: len(title.split()))
    planted = {
        "a path of this machine": str(finished / "papers"),
        "the title of a paper": title,
        "a question of the benchmark": rows(finished / "benchmark.jsonl")[0]["question"],
        "the file name of a paper": "a_paper_with_a_long_name.pdf",
    }
    assert len(title.split()) >= 3
    texts.append(("the file name of a paper", planted["the file name of a paper"]))
    gguf = finished / "runs" / "small" / "5-export" / "tuned.gguf"
    require_nothing_private([HubFile("x.gguf", gguf), HubFile("README.md", b"Answers questions.")], texts)
    for what, text in planted.items():
        head = json.dumps({"__metadata__": {"made_in": text}}, ensure_ascii=False).encode()
        (tmp_path / "x.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"0" * 8)
        weights = HubFile("x.safetensors", tmp_path / "x.safetensors")
        for file in (weights, HubFile("README.md", f"of {text}.".encode())):
            with pytest.raises(InputError, match=f"{file.name} contains {what}"):
                require_nothing_private([file], texts)
    (tmp_path / "y.gguf").write_bytes(gguf.read_bytes().replace(b"tuned", b"qzqzq", 1))
    with pytest.raises(InputError, match=r"y\.gguf contains the name of this machine"):
        require_nothing_private([HubFile("y.gguf", tmp_path / "y.gguf")], [("the name of this machine", "qzqzq")])


def test_an_adapter_is_pushed_pulled_and_trained_further(
    project: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("push", recipe_of(project), "ada/small", "--yes", "--public")
    assert online(*arguments, cwd=project, monkeypatch=monkeypatch).returncode == 0
    recipe = project / "recipes" / "second.yaml"
    recipe.write_text('extends: small.yaml\ntrain: {from_adapter: "hf:ada/small", learning_rate: 1e-4}\n')
    done = online("train", recipe, cwd=project, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    first, second = (rows(project / "runs" / name / "3-train" / "losses.jsonl")[0] for name in ("small", "second"))
    assert second["train_loss"] < first["train_loss"]
    assert "up to date" in ragtune("train", recipe, cwd=project).stderr  # offline now
    ours = read_adapter(project / "runs" / "small" / "3-train")
    [theirs] = Path(constants.HF_HUB_CACHE).glob("**/adapter_config.json")
    assert read_adapter(theirs.parent).rank == ours.rank


@pytest.mark.parametrize("what", ["fused", "gguf"])
def test_a_pushed_model_is_a_base(what: str, project: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("push", recipe_of(project), "ada/small", "--what", what, "--yes", "--public")
    assert online(*arguments, cwd=project, monkeypatch=monkeypatch).returncode == 0
    edit(recipe_of(project), base={"model": "ada/small"})
    done = online("corpus", recipe_of(project), cwd=project, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    done = online("export", recipe_of(project), cwd=project, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    header = read_header(project / "runs" / "small" / "5-export" / "base.gguf")
    assert header["general.architecture"] == "qwen3"
    assert ragtune("status", recipe_of(project), cwd=project).returncode == 0  # offline, from the cache


def test_an_unfinished_run_and_a_wrong_name_are_refused(project: Path, hub: HubStandIn) -> None:
    assert ragtune("push", recipe_of(project), "small", cwd=project).returncode == 2
    edit(recipe_of(project), train={"epochs": 2})
    done = ragtune("push", recipe_of(project), "ada/small", cwd=project)
    assert done.returncode == 5
    assert "ragtune run" in done.stderr or "ragtune evaluate" in done.stderr
    assert hub.requests == []
