"""What the sections of a recipe are made of."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=4096)]
Tokens = Annotated[int, Field(ge=64, le=2**20)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 2)]  # to llama.cpp 2**32 - 1 means a random seed
Name = Annotated[str, Field(min_length=1, max_length=4096)]
File = Annotated[Path, Field(strict=False)]
HUB_DATA = re.compile(
    r"hf:(?P<name>[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)"
    r"(?:@(?P<revision>[\w./-]{1,100}))?(?:#(?P<split>[\w./-]{1,100}))?"
)
"""A data set of the Hugging Face hub in place of a file: its name, and a revision and a split if they are given."""
HUB_ADAPTER = re.compile(
    r"hf:(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,100}))?"
)
"""An adapter of the hub in place of a folder: `hf:USER/NAME` or `hf:USER/NAME@REVISION`."""


class Settings(BaseModel):
    """What all sections share: unknown keys are errors, values are not converted, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
