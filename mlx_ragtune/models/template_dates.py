"""The date that a chat template prints, frozen: the same prompt in training, in the exported files and on every day.

Templates such as Llama 3.2's write ``strftime_now("%d %b %Y")`` into the system turn. Every reader of a template in
this project sees the call replaced with the text that it gives on ``FIXED_DATE``, and exported models contain that.
"""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""The date that Llama 3's templates print where they cannot ask for one."""
_CALL = re.compile(r"strftime_now\(\s*(['\"])([^'\"\\]*)\1\s*\)")


def frozen(template: str) -> str:
    """``template`` with the text of ``FIXED_DATE`` in the place of each ``strftime_now("…")``; else unchanged."""
    return _CALL.sub(lambda call: f"{call[1]}{FIXED_DATE.strftime(call[2])}{call[1]}", template)


def frozen_date(template: str) -> str:
    """The fixed date in ISO form when ``frozen`` changes the template, else an empty text."""
    return FIXED_DATE.date().isoformat() if frozen(template) != template else ""


def freeze_tokenizer(tokenizer: Any) -> Any:
    """The same tokenizer of transformers, with its chat template frozen."""
    template = tokenizer.chat_template
    if isinstance(template, str):
        tokenizer.chat_template = frozen(template)
    elif isinstance(template, dict):
        tokenizer.chat_template = {name: frozen(text) for name, text in template.items()}
    return tokenizer


def freeze_files(folder: Path) -> None:
    """Freeze the template in the files of a model folder that this project writes."""
    file = folder / "chat_template.jinja"
    if file.exists():
        text = file.read_text(encoding="utf-8")
        if frozen(text) != text:
            file.write_text(frozen(text), encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if config.exists():
        about = json.loads(config.read_text(encoding="utf-8"))
        template = about.get("chat_template")
        if isinstance(template, list):
            changed: object = [
                {**entry, "template": frozen(entry["template"])} if isinstance(entry.get("template"), str) else entry
                for entry in template
            ]
        else:
            changed = frozen(template) if isinstance(template, str) else template
        if changed != template:
            text = json.dumps({**about, "chat_template": changed}, indent=2, ensure_ascii=False)
            config.write_text(text + "\n", encoding="utf-8")
