"""The contract of a pass: a frozen dataclass whose fields are its options, with one method, `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from h4hc.diagnostics import Diagnostic


@dataclass(frozen=True)
class Skip:
    """A place where a pass did not apply although it looked like it might: the node, and why not."""

    node: str
    why: str


@dataclass
class PassResult:
    """What a pass did. `changed` counts rewrites; 0 on a second run. `removed` maps origins that no node
    stands for any more to the reason (an identity that was dropped, a constant that was folded)."""

    changed: int = 0
    removed: dict[str, str] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(frozen=True)
class Pass(ABC):
    """One ONNX -> ONNX rewrite.

    The first line of the subclass's docstring is what `h4hc passes` prints. `after` names the passes that
    must stand before it in a list, if they are in the list at all. `run` may change the model it is given
    (the pipeline passes a clone) but never a weight in place, and only the main graph, never the body of an
    If, Loop or Scan.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, model: ir.Model) -> PassResult:
        """Rewrite `model` and say what was done."""
