"""What all sections share: types of values, and the base class that refuses unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Portion = Annotated[tuple[Share, Share], Field(description="From which share of the training rows to which.")]
DirectionGroup = Literal["from_pivot", "to_pivot"]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are not changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def fill(value: Any, field: str, text: str) -> Any:
    """``value`` with ``field`` replaced by ``text`` in every string inside it."""
    if isinstance(value, str):
        return value.replace(field, text)
    if isinstance(value, dict):
        return {key: fill(inner, field, text) for key, inner in value.items()}
    return [fill(inner, field, text) for inner in value] if isinstance(value, list) else value
