"""Fault: what the checkers of plans and of memory find."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A broken rule: its name, and the operators, tensors or devices it is about."""

    rule: str
    where: tuple[str, ...]
    detail: str
