"""The kinds of values that several configurations have, each with its legal range."""

from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ClassPath = Annotated[
    str,
    Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$", json_schema_extra={"examples": ["package.module:Class"]}),
]
Option = str | bool | int | float | None
Options = Annotated[dict[str, Option | list[Option]], Field(description="options of a class of your own")]
SeedInt = Annotated[int, Field(ge=0, lt=2**31)]
