"""The JSON replies of Ollama that are read here, checked field by field."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mlx_ragtune.errors import ToolError


def _encodable(text: str) -> str:
    text.encode()  # a lone surrogate, which JSON can hold and no file can, is a ValueError
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Reply(BaseModel):
    """Fields that are not declared are ignored; declared ones are not coerced."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class VersionReply(Reply):
    """``/api/version``."""

    version: Text


class Delta(Reply):
    """A piece of an answer."""

    content: Text = ""
    thinking: Text = ""


class ChatLine(Reply):
    """One line of a streamed ``/api/chat``; counts, and durations in nanoseconds, are in the last one only."""

    message: Delta = Delta()
    done: bool = False
    done_reason: Text = "stop"
    prompt_eval_count: Count = 0
    eval_count: Count | None = None
    load_duration: Count = 0
    eval_duration: Count = 0


class DebugInfo(Reply):
    """What ``_debug_render_only`` asks for."""

    rendered_template: Text | None = None


class Rendered(Reply):
    """``/api/chat`` with ``_debug_render_only``; the field is undocumented and may be absent."""

    debug: DebugInfo = Field(default=DebugInfo(), alias="_debug_info")


class Details(Reply):
    """``details`` of ``/api/show``."""

    quantization_level: Text = ""


class Shown(Reply):
    """``/api/show``."""

    details: Details = Details()
    template: Text = ""
    parameters: Text = ""
    modelfile: Text = ""
    system: Text = ""
    license: Text = ""
    renderer: Text = ""
    parser: Text = ""
    capabilities: list[Text] | None = None


Checked = TypeVar("Checked", bound=Reply)


def check_reply(kind: type[Checked], value: Any, *, where: str) -> Checked:
    """``value`` as that reply. Raises ToolError naming the first field that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise malformed(describe_validation(error), where) from None


def describe_validation(error: ValidationError) -> str:
    """The first problem: the field, what is wrong, and the value."""
    first = error.errors()[0]
    at = ".".join(str(part) for part in first["loc"])
    return f"{at + ': ' if at else ''}{first['msg']}, not {ascii(first['input'])[:60]}"


def malformed(what: str, where: str) -> ToolError:
    """The error for a reply that Ollama does not send."""
    return ToolError(
        f"unexpected reply, not from Ollama or from an unsupported version: {what}",
        where=where,
        fix=f"check that Ollama runs at this address: curl {where}/api/version",
    )
