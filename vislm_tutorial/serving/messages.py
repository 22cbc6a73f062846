"""What goes over the wire: the bodies of requests and answers, as pydantic checks them.

OpenAPI's description is made from these, limits and all. No `from __future__ import annotations`
here or in `service`: FastAPI reads annotations that are made inside functions.
"""

from typing import Annotated, Literal

from ._extra import missing
from .asking import Limits

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
except ImportError as error:
    raise missing(error) from error


class Picture(BaseModel):
    """One picture of an answer."""

    caption: str
    seed: int
    png: str = Field(description="The PNG file in base64.")


class Answer(BaseModel):
    """What /draw gives."""

    id: str = Field(description="Names this answer in /feedback.")
    images: list[Picture]
    seconds: float = Field(description="That the model took; the time in the queue is not in it.")
    notes: list[str] = Field(description="What to know about the pictures.")


class Fault(BaseModel):
    """What went wrong: a word for programs, a sentence for people."""

    code: str
    message: str
    details: list[dict[str, str]] = []


class Refusal(BaseModel):
    """The body of every answer that is not 200."""

    error: Fault


class Feedback(BaseModel):
    """What somebody thinks of an answer."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str = Field(max_length=64)
    right: bool = Field(description="Do the pictures show what the captions say?")


class Health(BaseModel):
    """State of the service."""

    status: Literal["alive", "ready"]


def whole(least: int, most: int):
    """A whole number of JSON, where 3.0 is one too; a strict int of pydantic refuses that."""
    plain = BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)
    return Annotated[int, Field(ge=least, le=most), plain]


def draw_body(limits: Limits) -> type[BaseModel]:
    """The body of /draw as pydantic checks it, and as OpenAPI describes it, limits and all."""
    caption = Annotated[str, Field(max_length=limits.caption_characters)]
    return create_model(
        "Draw",
        __config__=ConfigDict(extra="forbid", strict=True),
        captions=(list[caption], Field(min_length=1, max_length=limits.captions)),
        images_per_caption=(whole(1, limits.images_per_caption), 1),
        steps=(whole(1, limits.steps) | None, None),
        guidance_scale=(
            float | None,
            Field(None, ge=0, le=limits.guidance_scale, allow_inf_nan=False),
        ),
        seed=(whole(0, limits.seed), 0),
        format=(Literal["json", "png"], Field("json", description="png: all in one picture.")),
        consent=(bool, Field(False, description="The captions may be kept to improve the model.")),
    )


def refusals(*statuses: int) -> dict[int, dict]:
    """OpenAPI's description of error answers."""
    return {status: {"model": Refusal} for status in statuses}
