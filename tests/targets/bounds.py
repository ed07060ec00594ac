"""Which bounds of a device's numbers nothing depends on: each must narrow some interval when it meets the value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from pydantic import BaseModel

from h4hc.quantity import Quantity, quantities

SpecT = TypeVar("SpecT", bound=BaseModel)


def with_quantity(spec: SpecT, path: str, quantity: Quantity) -> SpecT:
    """The spec with another quantity at a dotted path."""
    name, _, rest = path.partition(".")
    value = with_quantity(getattr(spec, name), rest, quantity) if rest else quantity
    return spec.model_copy(update={name: value})


def idle_bounds(specs: tuple[SpecT, ...], answers: Callable[[SpecT], object]) -> list[str]:
    """`path.low` and `path.high` of the quantities whose bound changes no answer on any of `specs` (one device's
    variants: all have the same quantities)."""
    before = [answers(spec) for spec in specs]
    return [
        f"{path}.{bound}"
        for path, bound, _ in _wide(specs[0])
        if all(answers(_narrowed(spec, path, bound)) == was for spec, was in zip(specs, before, strict=True))
    ]


def _narrowed(spec: SpecT, path: str, bound: str) -> SpecT:
    quantity = dict(quantities(spec))[path]
    return with_quantity(spec, path, quantity.model_copy(update={bound: quantity.value}))


def _wide(spec: BaseModel) -> Iterator[tuple[str, str, Quantity]]:
    for path, quantity in quantities(spec):
        for bound in ("low", "high"):
            if getattr(quantity, bound) != quantity.value:
                yield path, bound, quantity
