"""Warnings and notes: data that travels with the result into the report, never printed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Diagnostic:
    """One remark for the user. `code` is stable (H4W...), `where` names the user's own nodes or tensors."""

    code: str
    severity: Literal["warning", "note"]
    what: str
    where: tuple[str, ...] = ()
    hint: str = ""
