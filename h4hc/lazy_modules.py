"""Put off the import of modules that a dependency asks for at its top but needs only for rare models.

onnx_ir imports sympy, 0.4 s of CPU, for arithmetic on symbolic dimensions; compiling fixes all dimensions first. The
standard library's LazyLoader gives the module at once and runs its code at the first use of an attribute. Only the
command line installs this: a program that uses h4hc as a library keeps its own import system as it is.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

LAZY = frozenset({"sympy", "onnx_ir._symbolic_shapes"})


class LazyFinder:
    """A finder that answers for the modules in LAZY and leaves the rest to those behind it."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec with its loader wrapped; None for other modules and for absent ones."""
        if name not in LAZY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Put the finder in front; a second call changes nothing."""
    if LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, LazyFinder)
