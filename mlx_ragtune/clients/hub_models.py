"""GGUF files and adapters of the hub, for ``base.model`` and ``train.from_adapter``."""

import os
from pathlib import Path

from mlx_ragtune.clients.file_digests import is_offline
from mlx_ragtune.clients.hub_hf import hub_file_error, snapshot_folder
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.recipe_types import HUB_ADAPTER

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapters.safetensors")
_TIMEOUT_SECONDS = 5.0


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def adapter_folder(path: Path) -> Path:
    """The folder of an adapter; one of the hub is downloaded once, and taken from the cache when offline.

    Raises InputError for a repository that the hub does not have, ToolError when it cannot be reached.
    """
    match = HUB_ADAPTER.fullmatch(str(path))
    if match is None:
        return path
    import huggingface_hub

    name, revision = match["name"], match["revision"] or "main"
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(_ADAPTER_FILES),
                local_files_only=is_offline(),
                etag_timeout=_TIMEOUT_SECONDS,
                endpoint=_endpoint(),
            )
        )
    except Exception as error:  # the client's HTTP library has errors of its own, without a common base
        raise hub_file_error(error, f"{name}@{revision}", where="train.from_adapter") from None


def hub_gguf(settings: BaseModelSettings) -> Path | None:
    """The only GGUF file of a hub model that has no safetensors, downloaded; None for a model that has none.

    Raises InputError for several of them, of which none is the obvious one, and ToolError when the download fails.
    """
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi(endpoint=_endpoint())
        info = api.model_info(settings.model, revision=settings.revision, timeout=_TIMEOUT_SECONDS)
        names = sorted(item.rfilename for item in info.siblings or () if item.rfilename.endswith(".gguf"))
        if len(names) == 1:
            return Path(
                huggingface_hub.hf_hub_download(
                    settings.model, names[0], revision=info.sha, endpoint=_endpoint(), etag_timeout=_TIMEOUT_SECONDS
                )
            )
    except Exception as error:
        raise hub_file_error(error, f"{settings.model}@{settings.revision}", where="base.model") from None
    if names:
        raise InputError(
            f"'{settings.model}' on the hub has {len(names)} GGUF files: {', '.join(names[:6])}",
            where="base.model",
            fix=f"download one: hf download {settings.model} {names[0]}; then name its path",
        )
    return None


def cached_gguf(settings: BaseModelSettings) -> Path | None:
    """The only GGUF file that an earlier download left of a hub model, or None. Nothing is downloaded."""
    folder = snapshot_folder(settings)
    files = sorted(folder.glob("*.gguf")) if folder is not None else []
    return files[0] if len(files) == 1 else None
