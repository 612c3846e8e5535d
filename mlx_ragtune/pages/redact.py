"""What a report must not give away: credentials in URLs and absolute paths of the machine."""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mlx_ragtune.recipe_yaml import project_folder

_USERINFO = re.compile(r"://[^\s\"'<>]*@")
_SCHEMELESS = re.compile(r"^[^\s/@]+:[^\s@]*@(?=[^\s@/]+:\d+$)")
_PATH = re.compile(r"(?<![\w.:/~\\-])/(?:[^\s/,;:\"'<>()]+/)+[^\s/,;:\"'<>()]+")

Value = TypeVar("Value")


def redacted(value: Value, *, keep: Collection[str] = ()) -> Value:
    """The same value with every text in it redacted, at any depth; fields named in ``keep`` are unchanged."""
    return _redacted(value, keep)  # type: ignore[no-any-return]


def _redacted(value: Any, keep: Collection[str]) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {_redacted(key, keep): _redacted(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_redacted(item, keep) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: _redacted(getattr(value, field.name), keep) for field in fields(value) if field.name not in keep
        }
        return replace(value, **changed)
    return value


def redact_text(text: str) -> str:
    """``http://user:password@host`` as ``http://host``; an absolute path relative to its project, or its name only."""
    text = _SCHEMELESS.sub("", _USERINFO.sub("://", text))
    if text.startswith("/") and "\n" not in text:
        return _short_path(text)
    return _PATH.sub(lambda match: _short_path(match[0]), text)


def _short_path(text: str) -> str:
    path = Path(text)
    try:
        return path.relative_to(project_folder(path)).as_posix()
    except OSError:  # a name that is too long to look up
        return path.name
