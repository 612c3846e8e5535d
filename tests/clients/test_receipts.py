"""Receipts: what exactly was registered, and that a later file is the same one."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import pytest

from mlx_ragtune.clients.receipts import embedded_receipt, gguf_facts, text_digest
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import TEMPLATE, write_toy_model


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_toy_model(folder / "model", architecture="llama", seed=5)
    write_gguf(folder / "model", folder / "a.gguf", type="Q8_0", name="toy")
    return folder


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q4_K_M"])
def test_the_facts_are_those_of_the_file(toy: Path, tmp_path: Path, kind: QuantType) -> None:
    write_gguf(toy / "model", tmp_path / "b.gguf", type=kind, name="toy")
    facts = gguf_facts(tmp_path / "b.gguf")
    assert (facts.type, facts.architecture, facts.template) == (kind, "llama", TEMPLATE)


def test_a_receipt_names_the_file_by_its_digest(toy: Path) -> None:
    receipt = embedded_receipt("demo-base", toy / "a.gguf")
    whole = hashlib.sha256((toy / "a.gguf").read_bytes()).hexdigest()
    assert receipt.gguf_sha256.removeprefix("sha256:") == whole
    assert receipt.template_sha256 == text_digest(TEMPLATE)
    assert (receipt.name, receipt.server, receipt.type, receipt.host) == ("demo-base", "llama.cpp", "Q8_0", "")
    assert receipt.version.startswith("xllamacpp ")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all, but long enough to be one" * 10])
def test_a_file_that_is_no_model_gets_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(InputError, match="not a GGUF file"):
        embedded_receipt("x", tmp_path / "a.gguf")


def test_the_registered_file_is_served(toy: Path) -> None:
    receipt = asdict(embedded_receipt("demo-base", toy / "a.gguf"))
    with open_served(receipt, toy / "a.gguf", context_tokens=256) as backend:
        assert backend.identity()


def test_another_file_under_its_name_is_refused(toy: Path, tmp_path: Path) -> None:
    receipt = asdict(embedded_receipt("demo-base", toy / "a.gguf"))
    other = tmp_path / "a.gguf"
    other.write_bytes((toy / "a.gguf").read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match="this is not the file that was registered as 'demo-base'") as caught:
        open_served(receipt, other, context_tokens=256)
    assert caught.value.fix == "ragtune register RECIPE --redo"
