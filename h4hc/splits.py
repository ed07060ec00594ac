"""Splits: which operators are cut along their channels, and into how many channels each. JSON in and out.

`h4hc.splitting` carries them out, on a legalised model and on its workload; this file is what a plan says of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from h4hc.errors import Problem, UserError
from h4hc.workload import Cut


@dataclass(frozen=True)
class Split:
    """Operator `op` becomes one operator for each number in `counts`, which is how many channels that part gets.

    axis: "output", parts make channels of the result, which a Concat joins; "input", parts read channels of the input,
    and an Add sums their results.
    """

    op: str
    axis: Literal["output", "input"]
    counts: tuple[int, ...]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Half-open range of channels of each part.

        >>> Split("conv", "output", (8, 24)).ranges
        ((0, 8), (8, 32))
        """
        return tuple(itertools.pairwise((0, *itertools.accumulate(self.counts))))

    def part(self, index: int) -> str:
        """Id of a part's operator."""
        return f"{self.op}/part{index}"

    @property
    def join(self) -> str:
        """Id of the operator that puts the parts together."""
        return f"{self.op}/join"

    def slice(self, index: int, operand: int) -> str:
        """Id of the operator that cuts the activation `operand` (0 for the first that is cut) for a part."""
        return f"{self.op}/slice{index}" + (f"_{operand}" if operand else "")


def scaled(start: int, stop: int, dim: int, count: int) -> tuple[int, int]:
    """The range of an axis of `dim` that belongs to the channels start to stop of `count`.

    >>> scaled(4, 8, 3, 12), scaled(4, 8, 12, 12)
    ((1, 2), (4, 8))
    """
    return start * dim // count, stop * dim // count


def fault(split: Split, cut: Cut | str) -> str:
    """Why an operator that can be cut like this (or why it cannot) takes no such split; empty if it does."""
    if isinstance(cut, str):
        return cut or "it is no convolution and no matrix product"
    if len(split.counts) < 2:
        return f"{len(split.counts)} parts: a split has at least two"
    if split.axis == "input" and len(split.counts) > 2:
        return f"{len(split.counts)} parts: an Add sums two"
    if sum(split.counts) != cut.count:
        return f"the parts have {sum(split.counts)} channels together, the operator has {cut.count}"
    small = [c for c in split.counts if c < cut.least]
    if small:
        return f"a part of {small[0]}: the least is {cut.least} channels, fewer would change layouts or bits"
    ragged = [c for c in split.counts[:-1] if c % cut.unit]
    return f"a part of {ragged[0]}: channels go together by {cut.unit}" if ragged else ""


def check_splits(
    splits: Iterable[Split], cuts: Mapping[str, tuple[Cut | str, Cut | str]], taken: Iterable[str]
) -> None:
    """Hold splits against what can be cut: operator -> (by output, by input). taken: names that are in use.

    Raises: UserError with everything that is wrong.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    names = set(taken)
    for split in splits:
        new = [split.join, *(split.part(i) for i in range(len(split.counts)))]
        clash = [name for name in new if name in names]
        if split.op not in cuts:
            why = "the model has no such operator"
        elif split.op in seen:
            why = "it is split twice: one split may have more than two parts"
        elif clash:
            why = f"the name {clash[0]!r} is taken"
        else:
            why = fault(split, cuts[split.op][0 if split.axis == "output" else 1])
        if why:
            what = f"{split.op!r} cannot be split by {split.axis} channels into {' + '.join(map(str, split.counts))}"
            problems.append(Problem(what, (split.op,), why, "ask split_options for the splits it has"))
        seen.add(split.op)
    if problems:
        raise UserError.of(tuple(problems))


def to_json(splits: tuple[Split, ...]) -> bytes:
    """Canonical JSON."""
    return bytes(_adapter().dump_json(splits, indent=1))


def from_json(data: bytes) -> tuple[Split, ...]:
    """Inverse of `to_json`; raises pydantic.ValidationError on anything else."""
    return tuple(_adapter().validate_json(data))


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Split, ...])
