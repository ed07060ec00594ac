"""Free dimensions of the inputs: fixed by options, taken as 1 for the batch, else an error with the flag to type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from h4hc.diagnostics import Diagnostic
from h4hc.errors import Problem, UserError

W_BATCH = "H4W101"  # a free batch dimension was taken as 1

_FIXED = "h4hc.fixed_dims"  # in graph.meta: names of dimensions that an earlier run has fixed -> size
# Written by exporters for "not known": two dimensions of such a name need not have the same size.
_ANONYMOUS = frozenset({"", "?", "*", "-1", "None", "none", "unknown", "undefined", "dynamic"})


def fix_inputs(
    graph: ir.Graph, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> tuple[int, tuple[Diagnostic, ...]]:
    """Make the shape of every tensor input static; gives the number of inputs changed, and warnings.

    shapes: input name -> whole shape. sizes: dimension name -> size, wherever the name occurs. A name that a
    shape fixes in one input holds for the other inputs too. Inputs that are initialisers as well, and inputs
    that are not tensors, are left alone.

    Raises: UserError with every contradiction, every unknown name, and every dimension left free.
    """
    inputs = [v for v in graph.inputs if not v.is_initializer() and isinstance(v.type, ir.TensorType | None)]
    fixer = _Fixer(inputs, dict(graph.meta.get(_FIXED, {})))
    fixer.apply_shapes(shapes)
    fixer.apply_sizes(sizes)
    fixer.spread()
    fixer.take_batch_as_one()
    fixer.report_free(shapes)
    if fixer.problems:
        raise UserError.of(tuple(fixer.problems))
    changed = fixer.store()
    if changed or fixer.bound:
        graph.meta[_FIXED] = dict(fixer.bound)
    return changed, tuple(fixer.diagnostics)


def fixed_sizes(graph: ir.Graph) -> dict[str, int]:
    """Sizes of the named dimensions that this run or an earlier one has fixed."""
    return dict(graph.meta.get(_FIXED, {}))


def _name(dim: object) -> str:
    """Usable name of a free dimension, or empty."""
    text = getattr(dim, "value", None)
    return text if isinstance(text, str) and text not in _ANONYMOUS else ""


def _is_free(dim: object) -> bool:
    return not isinstance(dim, int) or dim < 0  # -1: how some exporters write "any size"


@dataclass
class _Fixer:
    """The inputs' dimensions on their way to numbers; every mistake found on the way."""

    inputs: list[ir.Value]
    bound: dict[str, int]  # dimension name -> size
    problems: list[Problem] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    dims: dict[ir.Value, list[object] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self.inputs:
            self.dims[value] = None if value.shape is None else list(value.shape)

    def bind(self, name: str, size: int, where: str) -> None:
        """One name, one size."""
        if self.bound.setdefault(name, size) != size:
            self.problems.append(
                Problem(
                    f"dimension {name!r} cannot be both {self.bound[name]} and {size}",
                    where=(where,),
                    why="all dimensions of one name have one size",
                    hint=f"give one size for {name!r}",
                )
            )

    def apply_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """--input-shape."""
        by_name = {str(v.name): v for v in self.inputs}
        for name, shape in shapes.items():
            flag = f"--input-shape {name}={_comma(shape)}"
            if name not in by_name:
                known = (
                    ", ".join(f"{v.name}{_shown(None if v.shape is None else list(v.shape))}" for v in self.inputs)
                    or "none"
                )
                self.problems.append(
                    Problem(
                        f"the model has no input {name!r}", (flag,), f"its inputs: {known}", "use one of these names"
                    )
                )
                continue
            if any(size < 0 for size in shape):
                self.problems.append(
                    Problem(f"a shape of input {name!r} with a negative size", (flag,), "sizes are >= 0")
                )
                continue
            self._apply_shape(by_name[name], shape, flag)

    def _apply_shape(self, value: ir.Value, shape: tuple[int, ...], flag: str) -> None:
        dims = self.dims[value]
        if dims is not None and len(dims) != len(shape):
            self.problems.append(
                Problem(
                    f"input {value.name!r} has {len(dims)} dimensions, not {len(shape)}",
                    (flag,),
                    f"the model says {_shown(dims)}",
                    f"--input-shape {value.name}={_template(dims)}",
                )
            )
            return
        for axis, (dim, size) in enumerate(zip(dims or [None] * len(shape), shape, strict=True)):
            if not _is_free(dim) and dim != size:
                self.problems.append(
                    Problem(
                        f"dimension {axis} of input {value.name!r} is {dim} and cannot become {size}",
                        (flag,),
                        f"the model says {_shown(dims)}: only free dimensions can be fixed",
                        f"--input-shape {value.name}={_template(dims or [])}",
                    )
                )
            elif _name(dim):
                self.bind(_name(dim), size, flag)
        self.dims[value] = list(shape)

    def apply_sizes(self, sizes: Mapping[str, int]) -> None:
        """--fix-dim."""
        named = {_name(d): None for v in self.inputs for d in (v.shape or ()) if _is_free(d) and _name(d)}
        for name, size in sizes.items():
            flag = f"--fix-dim {name}={size}"
            if name not in named and name not in self.bound:
                known = ", ".join(named) or "none of the inputs' free dimensions has a name of its own"
                hint = "use one of these names" if named else "use --input-shape NAME=..."
                self.problems.append(
                    Problem(f"no input has a free dimension {name!r}", (flag,), f"known: {known}", hint)
                )
            elif size < 1:
                self.problems.append(Problem(f"dimension {name!r} cannot be {size}", (flag,), "sizes are >= 1"))
            else:
                self.bind(name, size, flag)

    def spread(self) -> None:
        """Every dimension of a name that has a size now has it."""
        for dims in self.dims.values():
            for axis, dim in enumerate(dims or ()):
                if _is_free(dim) and _name(dim) in self.bound:
                    assert dims is not None
                    dims[axis] = self.bound[_name(dim)]

    def take_batch_as_one(self) -> None:
        """A free first dimension is the batch, unless its name stands at another place of an input as well."""
        inner = {_name(d) for dims in self.dims.values() for d in (dims or ())[1:] if _is_free(d)} - {""}
        for value, dims in self.dims.items():
            if not dims or not _is_free(dims[0]) or _name(dims[0]) in inner:
                continue
            flag = (
                f"--fix-dim {_name(dims[0])}=N" if _name(dims[0]) else f"--input-shape {value.name}={_template(dims)}"
            )
            self.diagnostics.append(
                Diagnostic(
                    W_BATCH,
                    "warning",
                    f"the free first dimension of input {value.name!r} is taken as 1",
                    where=(str(value.name),),
                    hint=f"give it with {flag}",
                )
            )
            dims[0] = 1

    def report_free(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """One problem for each input that is still not static, with what to type."""
        for value, dims in self.dims.items():
            if str(value.name) in shapes:
                continue
            if dims is None:
                self.problems.append(
                    Problem(
                        f"input {value.name!r} has no shape",
                        (str(value.name),),
                        "the model does not even say how many dimensions it has",
                        f"--input-shape {value.name}=D0,D1,...",
                    )
                )
                continue
            free = [axis for axis, dim in enumerate(dims) if _is_free(dim)]
            if not free:
                continue
            names = [n for n in dict.fromkeys(_name(dims[a]) for a in free) if n]
            by_dim = " ".join(f"--fix-dim {n}=SIZE" for n in names)
            whole = f"--input-shape {value.name}={_template(dims)}"
            all_named = all(_name(dims[a]) for a in free)
            self.problems.append(
                Problem(
                    f"input {value.name!r} has free dimensions: {_axes(free, dims)}",
                    (str(value.name),),
                    f"the model says {_shown(dims)}; a plan needs sizes",
                    f"{whole} with sizes for each ?" + (f", or {by_dim}" if all_named else ""),
                )
            )

    def store(self) -> int:
        """Write the sizes into the graph; the number of inputs that changed."""
        changed = 0
        for value, dims in self.dims.items():
            shape = ir.Shape([d for d in dims or () if isinstance(d, int)])
            if value.shape is None or tuple(value.shape) != tuple(shape):
                value.shape = shape
                changed += 1
        return changed


def _axes(free: list[int], dims: list[object]) -> str:
    return ", ".join(f"{a} ({_name(dims[a])!r})" if _name(dims[a]) else str(a) for a in free)


def _comma(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def _template(dims: list[object]) -> str:
    return ",".join("?" if _is_free(d) else str(d) for d in dims)


def _shown(dims: list[object] | None) -> str:
    if dims is None:
        return "[no shape]"
    return "[" + ", ".join(str(d) if not _is_free(d) else (_name(d) or "?") for d in dims) + "]"
