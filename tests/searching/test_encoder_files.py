"""Folders become GGUF files once, and only if llama.cpp computes the same from them."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.searching.encoder_files import encoder_digest, encoder_gguf
from tests.gguf.bert_folder import bert_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_converted_once(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    first = encoder_gguf(str(folder))
    written = first.stat().st_mtime_ns
    folder.rename(tmp_path / "moved")
    assert encoder_gguf(str(tmp_path / "moved")) == first
    assert first.stat().st_mtime_ns == written


def test_the_digest_covers_how_the_model_pools(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    before = encoder_digest(str(folder))
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert encoder_digest(str(folder)) != before
    assert encoder_gguf(str(folder)).is_file()  # the first token's state is checked like a mean


def test_a_cross_encoder_that_tells_its_two_texts_apart_by_type_is_refused(tmp_path: Path, cache: Path) -> None:
    assert encoder_gguf(str(bert_folder(tmp_path / "one", rerank=True))).is_file()
    kept = list((cache / "encoders").iterdir())
    with pytest.raises(ArtifactError, match=r"llama\.cpp computes otherwise than the model: scores differ by"):
        encoder_gguf(str(bert_folder(tmp_path / "two", rerank=True, second_type=1)))
    assert list((cache / "encoders").iterdir()) == kept


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such model folder or \.gguf file"):
        encoder_gguf(str(tmp_path / "absent"))
