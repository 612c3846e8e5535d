"""The GGUF file of an embedding model or reranker, from the file, folder or hub id that a recipe names."""

import itertools
import os
from pathlib import Path

from mlx_ragtune.artifact import digest_file, digest_json
from mlx_ragtune.clients.file_digests import base_digest, cache_folder, is_offline
from mlx_ragtune.clients.hub_hf import cached_snapshot, hub_snapshot
from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.gguf.encoder import DOCUMENT_PREFIX, QUERY_PREFIX, VERSION, write_encoder
from mlx_ragtune.recipe import BaseModelSettings

__all__ = ["DOCUMENT_PREFIX", "QUERY_PREFIX", "encoder_digest", "encoder_gguf"]
_LOCAL = (".", "/", "~")
PROBES = (
    "What does low-rank adaptation train?",
    "The weights stay frozen; two small matrices (r = 8) are trained, with 10,000 times fewer parameters.",
    "Unanswerable: naïve café co-operation, GPT-4.",
)
"""Texts that a converted model is checked with."""
_MIN_COSINE, _MAX_SCORE_ERROR = 0.999, 0.05


def encoder_gguf(model: str) -> Path:
    """The GGUF file itself, or the one that a model folder was converted to; it is converted and downloaded once.

    Raises InputError for a folder that cannot be converted, ToolError when the hub does not answer.
    """
    path = Path(model)
    if model.endswith(".gguf"):
        return path
    folder = path if model.startswith(_LOCAL) else _snapshot(model)
    if not folder.is_dir():
        raise InputError("no such model folder or .gguf file", where=model, fix="correct the path")
    target = cache_folder() / "encoders" / f"{_folder_digest(folder)[:16]}.gguf"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        checked = target.with_name(f".{target.stem}.{os.getpid()}.gguf")
        try:
            write_encoder(folder, checked)
            _require_equal(folder, checked)
            checked.replace(target)
        finally:
            checked.unlink(missing_ok=True)
    return target


def _require_equal(folder: Path, gguf: Path) -> None:
    """Raise ArtifactError unless llama.cpp computes from the file what numpy computes from the folder, in float32."""
    from mlx_ragtune.clients.encode_llamacpp import LlamaCppEncoder
    from mlx_ragtune.models.bert_forward import BertForward

    reference = BertForward(folder)
    rank = reference.ranks
    with LlamaCppEncoder(gguf, rank=rank) as engine:
        if rank:
            scores = [(engine.score(*pair), reference.score(*pair)) for pair in itertools.pairwise(PROBES)]
            worst, close = max(abs(served - own) for served, own in scores), _MAX_SCORE_ERROR
            wrong = worst > close
        else:
            rows = engine.vectors(PROBES)
            worst = min(float(row @ reference.embedding(text)) for row, text in zip(rows, PROBES, strict=True))
            wrong = worst < _MIN_COSINE
    if wrong:
        measured = "scores differ by" if rank else "the cosine is"
        raise ArtifactError(
            f"llama.cpp computes otherwise than the model: {measured} {worst:.4f}",
            where=str(folder),
            fix="name a GGUF file of the model that its makers published",
        )


def encoder_digest(model: str) -> str:
    """What identifies a model folder's content; the name of a hub model that is not on this machine yet."""
    if model.startswith(_LOCAL):
        return _folder_digest(Path(model))
    folder = cached_snapshot(BaseModelSettings(model=model))
    return _folder_digest(folder) if folder else model


def _folder_digest(folder: Path) -> str:
    """Digest of all that a conversion reads."""
    pooling = folder / "1_Pooling" / "config.json"
    return digest_json([VERSION, base_digest(folder), digest_file(pooling) if pooling.is_file() else None])


def _snapshot(model: str) -> Path:
    settings = BaseModelSettings(model=model)
    folder = cached_snapshot(settings)
    if folder is None and is_offline():
        raise ToolError(
            f"'{model}' is not on this machine, and downloads are switched off (RAGTUNE_OFFLINE or HF_HUB_OFFLINE)",
            where="retrieval",
            fix="connect once, or name a GGUF file or a folder: 'model: ./my-model'",
        )
    return folder or hub_snapshot(settings)
