"""Model snapshots from the Hugging Face hub."""

from pathlib import Path

from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.models.model_folder import PATTERNS, missing_files
from mlx_ragtune.recipe import BaseModelSettings

_HUB_TIMEOUT_SECONDS = 5.0


def hub_snapshot(settings: BaseModelSettings, *, cached: bool = False) -> Path | None:
    """The hub's snapshot; with ``cached`` only a complete one that is already here, else None."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                settings.model,
                revision=settings.revision,
                allow_patterns=list(PATTERNS),
                etag_timeout=_HUB_TIMEOUT_SECONDS,
                local_files_only=cached,
            )
        )
    except errors.HFValidationError as error:
        raise RecipeError(f"'{settings.model}' is not a hub id: {error}", where="base.model") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"the hub has no '{settings.model}' at '{settings.revision}', or it is private or gated: "
            f"{str(error).splitlines()[0]}",
            where="base.model",
            fix="correct the id; for a gated model accept its terms on the hub, then: hf auth login",
        ) from None
    except (OSError, errors.HfHubHTTPError) as error:
        if cached:
            return None
        raise ToolError(f"the hub does not answer ({_first_line(error)})") from None
    missing = missing_files(folder)
    if missing and cached:
        return None
    if missing:
        raise InputError(f"'{settings.model}' on the hub has no {', '.join(missing)}", where="base.model")
    return folder


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
