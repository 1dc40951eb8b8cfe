"""An app whose jobs take what schemas describe, for the test of the OpenAPI document."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from amqpjobs import App, Queue, Retry
from amqpjobs.jobs.job import Job

app = App("described", retry=Retry(attempts=1))
lanes = Queue("lanes", priorities={"high": 2, "low": 1})


class Size(Enum):
    """A size."""

    SMALL = "s"
    LARGE = "l"


class Item(BaseModel):
    """One item, with others in it."""

    name: Annotated[str, Field(min_length=1, max_length=20)]
    price: Decimal | None = None
    size: Size = Size.SMALL
    parts: list["Item"] = []


class Cat(BaseModel):
    """Purrs."""

    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    """Barks."""

    kind: Literal["dog"]
    born: datetime


@app.job(queue="orders")
async def order(item: Item, count: Annotated[int, Field(ge=1)] = 1) -> Item:
    """Order an item."""
    return item


@app.job(queue="pets")
async def pet(animal: Annotated[Cat | Dog, Field(discriminator="kind")]) -> str:
    """Stroke an animal."""
    return animal.kind


@app.job(queue=lanes)
async def nothing() -> None:
    """Takes nothing, gives nothing."""


hooked: Job[[Item, int], Item, object] = order  # type: ignore[assignment]
app.hook("orders", job=hooked)
