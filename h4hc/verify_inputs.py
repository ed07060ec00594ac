"""Inputs for verification: seeded, or from the user's .npz file.

Free dimensions take the values that were fixed at compile time. Inputs with a default value (an initialiser of
the same name) are left at their default.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.errors import Problem, UserError
from h4hc.verification import InputNote

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

WORDS = ("h4hc", "npu", "cim", "host", "")
SEQUENCE_LENGTH = 2  # tensors in a generated sequence
NPZ_LIMIT_BYTES = 2**32  # unpacked size of an --inputs file; far above any edge model's input

# Tried in this order until the original model accepts one. 8-bit integers are the activations of quantised models
# and use their whole range; wider ones are mostly indices and sizes and stay small.
FILLS = {
    "standard": "floats normal(0, 1), 8-bit integers over their range, other integers 0 or 1, bools random, words",
    "uniform": "floats uniform in [0, 1), integers 0, bools false, fixed words",
    "ones": "all ones, bools true, fixed words",
    "zeros": "all zeros, bools false, empty strings",
}


@dataclass(frozen=True)
class InputSpec:
    """One input that must be fed. form: tensor, sequence or optional; elem_type: ONNX number; shape None: unknown."""

    name: str
    form: str
    elem_type: int
    shape: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """numpy (or ml_dtypes) type of the elements."""
        from onnx import helper

        return helper.tensor_dtype_to_np_dtype(self.elem_type)


def input_specs(original: onnx.ModelProto, legalised: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """The inputs to feed, in the original's order, with the legalised model's shapes."""
    fixed = {value.name: value.type for value in legalised.graph.input}
    weights = {tensor.name for tensor in original.graph.initializer}
    weights |= {tensor.values.name for tensor in original.graph.sparse_initializer}
    fed = [value for value in original.graph.input if value.name not in weights]
    return tuple(_spec(value.name, fixed.get(value.name, value.type)) for value in fed)


def _spec(name: str, kind: onnx.TypeProto) -> InputSpec:
    form = "tensor"
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        which = str(kind.WhichOneof("value"))
        form = which.removesuffix("_type") if form == "tensor" else form
        kind = getattr(kind, which).elem_type
    if not kind.HasField("tensor_type"):
        return InputSpec(name, str(kind.WhichOneof("value")), 0, None)
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return InputSpec(name, form, tensor.elem_type, None)
    return InputSpec(name, form, tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim))


def generate(specs: tuple[InputSpec, ...], seed: int, samples: int, fill: str) -> list[dict[str, Any]]:
    """`samples` sets of inputs from one stream, numpy's Generator(PCG64(seed)); `fill` is a key of FILLS.

    Raises UserError naming each input whose shape or type does not say what to feed.
    """
    import numpy as np

    open_ones = [s for s in specs if s.shape is None or s.elem_type == 0]
    if open_ones:
        raise UserError.of(
            tuple(
                Problem(
                    f"no test values can be made for input {s.name!r}",
                    (s.name,),
                    f"it is a {s.form} whose shape the compiled model does not fix",
                    "give values with --inputs FILE.npz" if s.form == "tensor" else "verify it through the Python API",
                )
                for s in open_ones
            )
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    return [{spec.name: _value(spec, rng, fill) for spec in specs} for _ in range(samples)]


def _value(spec: InputSpec, rng: np.random.Generator, fill: str) -> Any:
    if spec.form == "sequence":
        return [_array(spec, rng, fill) for _ in range(SEQUENCE_LENGTH)]
    return _array(spec, rng, fill)


def _array(spec: InputSpec, rng: np.random.Generator, fill: str) -> NDArray[Any]:
    import numpy as np
    import onnx

    assert spec.shape is not None
    shape, dtype = spec.shape, spec.dtype
    if spec.elem_type == onnx.TensorProto.STRING:
        count = int(np.prod(shape, dtype=np.int64))
        words = [WORDS[i % len(WORDS)] if fill != "zeros" else "" for i in range(count)]
        return np.array(words, dtype=object).reshape(shape)
    if fill in ("ones", "zeros"):
        return np.full(shape, fill == "ones").astype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_) if fill == "standard" else np.zeros(shape, np.bool_)
    if _is_integer(spec.elem_type):
        return _integers(dtype, shape, rng, fill)
    draw = rng.standard_normal if fill == "standard" else rng.random
    if dtype.kind == "c":
        return np.asarray(draw(shape) + 1j * draw(shape)).astype(dtype)
    return np.asarray(draw(shape)).astype(dtype)


def _is_integer(elem_type: int) -> bool:
    import onnx

    return str(onnx.TensorProto.DataType.Name(elem_type)).startswith(("INT", "UINT"))


def _integers(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator, fill: str) -> NDArray[Any]:
    import numpy as np

    if fill != "standard":
        return np.zeros(shape, dtype)
    if dtype in (np.int8, np.uint8):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max + 1, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def notes(feeds: Mapping[str, Any], filled: str) -> tuple[InputNote, ...]:
    """What the report says about the inputs."""
    out = []
    for name, value in feeds.items():
        array = value[0] if isinstance(value, list) and value else value
        shape = tuple(int(d) for d in getattr(array, "shape", ()))
        out.append(InputNote(name, str(getattr(array, "dtype", type(value).__name__)), shape, filled))
    return tuple(out)


def load_npz(path: Path, specs: tuple[InputSpec, ...]) -> dict[str, Any]:
    """Read one set of inputs; nothing in the file is executed (`allow_pickle=False`).

    Raises UserError listing every input that is missing, unknown, or of another type or shape.
    """
    import numpy as np

    _check_size(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path.name} as .npz", (str(path),), str(error), _npz_hint(specs)) from error
    by_name = {spec.name: spec for spec in specs}
    problems = [
        Problem(f"{path.name} has no value for input {spec.name!r}", (spec.name,), hint=_npz_hint(specs))
        for spec in specs
        if spec.name not in arrays
    ]
    for name, array in arrays.items():
        if name not in by_name:
            why = f"inputs to feed: {', '.join(by_name) or 'none'}"
            problems.append(Problem(f"{path.name} has a value for {name!r}, which is no input", (name,), why))
        else:
            problems.extend(_misfit(by_name[name], array))
    if problems:
        raise UserError.of(tuple(problems))
    return {spec.name: arrays[spec.name] for spec in specs}


def _npz_hint(specs: tuple[InputSpec, ...]) -> str:
    shown = ", ".join(f"{s.name}: {s.dtype} {list(s.shape or ())}" for s in specs if s.elem_type)
    return f"write it with numpy.savez(path, **{{name: array}}) for {shown or 'no inputs'}"


def _check_size(path: Path) -> None:
    """Refuse a file that unpacks to more than any input needs, before unpacking it."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path.name} as .npz", (str(path),), str(error)) from error
    if size > NPZ_LIMIT_BYTES:
        raise UserError(f"{path.name} is too large", (str(path),), f"{size} bytes unpacked, limit {NPZ_LIMIT_BYTES}")


def _misfit(spec: InputSpec, array: NDArray[Any]) -> list[Problem]:
    import onnx

    found = []
    if spec.form != "tensor":
        return [Problem(f"input {spec.name!r} is a {spec.form}, which .npz cannot hold", (spec.name,))]
    text = spec.elem_type == onnx.TensorProto.STRING and array.dtype.kind in "US"
    if array.dtype != spec.dtype and not text:
        why = f"it is {array.dtype}, the model wants {spec.dtype}"
        found.append(Problem(f"input {spec.name!r} has the wrong type", (spec.name,), why))
    if spec.shape is not None and array.shape != spec.shape:
        why = f"it is {list(array.shape)}, the compiled model wants {list(spec.shape)}"
        hint = "compile with --input-shape for another shape"
        found.append(Problem(f"input {spec.name!r} has the wrong shape", (spec.name,), why, hint))
    return found
