"""Every hostile file that the loader must refuse, built by code: name -> how to build it, and what the error must say.

`MEASURED` are the attacks that were measured against onnx and onnxruntime, which accept some of them; they are also
run in a process of their own, with its time and memory held against the requirement.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from tests.loading import build


@dataclass(frozen=True)
class Attack:
    """build: writes the model into a folder; names: what `where` must cite; says: what the text must contain."""

    build: Callable[[Path], onnx.ModelProto | bytes]
    names: str
    says: str


def _external(location: str, **keys: object) -> onnx.ModelProto:
    made = build.add_weight()
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, text in {"location": location, **keys}.items():
        weight.external_data.add(key=key, value=str(text))
    return made


def _beside(folder: Path, size: int = 24) -> Path:
    path = folder / "w.bin"
    path.write_bytes(bytes(size))
    return path


def _outside(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}-secret.bin"
    path.write_bytes(bytes(24))
    return path


def _parent(folder: Path) -> onnx.ModelProto:
    return _external(f"../{_outside(folder).name}")


def _parent_in_the_middle(folder: Path) -> onnx.ModelProto:
    (folder / "a").mkdir()
    return _external(f"a/../../{_outside(folder).name}")


def _absolute(folder: Path) -> onnx.ModelProto:
    return _external(str(_beside(folder)))


def _symlink(folder: Path) -> onnx.ModelProto:
    (folder / "w.bin").symlink_to(_outside(folder))
    return _external("w.bin")


def _symlink_inside(folder: Path) -> onnx.ModelProto:
    (folder / "link.bin").symlink_to(_beside(folder).name)
    return _external("link.bin")


def _symlinked_folder(folder: Path) -> onnx.ModelProto:
    _outside(folder)
    (folder / "data").symlink_to(folder.parent, target_is_directory=True)
    return _external(f"data/{folder.name}-secret.bin")


def _hard_link(folder: Path) -> onnx.ModelProto:
    os.link(_outside(folder), folder / "w.bin")
    return _external("w.bin")


def _fifo(folder: Path) -> onnx.ModelProto:
    os.mkfifo(folder / "w.bin")
    return _external("w.bin")


def _folder_as_data(folder: Path) -> onnx.ModelProto:
    (folder / "w.bin").mkdir()
    return _external("w.bin")


def _with_file(size: int = 24, **keys: object) -> Callable[[Path], onnx.ModelProto]:
    def make(folder: Path) -> onnx.ModelProto:
        _beside(folder, size)
        return _external("w.bin", **keys)

    return make


def _bytes_of(made: onnx.ModelProto) -> Callable[[Path], onnx.ModelProto]:
    return lambda _folder: made


def _huge_dims() -> onnx.ModelProto:
    made = build.add_weight()
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].dims[:] = [2**31, 2**31]
    return made


def _dims(*dims: int) -> onnx.ModelProto:
    made = build.add_weight()
    made.graph.initializer[0].dims[:] = dims
    return made


def _cycle() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="last"),
    ]
    return build.model(nodes)


def _constant_of_shape() -> onnx.ModelProto:
    shape = build.tensor("shape", [2**20, 2**19], "int64")
    return build.model([helper.make_node("ConstantOfShape", ["shape"], ["y"], name="fill")], [], None, [shape])


def _ep_context() -> onnx.ModelProto:
    node = helper.make_node("EPContext", ["x"], ["y"], name="blob", domain="com.microsoft", source="H4HC", embed_mode=0)
    return build.model([node], domains=[("com.microsoft", 1)])


MEASURED: dict[str, Attack] = {
    "parent folder": Attack(_parent, "w", "'..'"),
    "absolute path": Attack(_absolute, "w", "absolute"),
    "symbolic link": Attack(_symlink, "w", "symbolic link"),
    "hard link": Attack(_hard_link, "w", "hard links"),
    "negative offset": Attack(_with_file(offset=-8), "w", "offset = '-8'"),
    "length past the end": Attack(_with_file(length=4096), "w", "past its end"),
    "length below the dims": Attack(_with_file(length=8), "w", "the dims ask for 24 bytes"),
    "unknown key": Attack(_with_file(colour="red"), "w", "unknown key 'colour'"),
    "dims of 2^31 x 2^31": Attack(_bytes_of(_huge_dims()), "w", "64 bits"),
    "negative dim": Attack(_bytes_of(_dims(-2, 3)), "w", "negative dim"),
    "cycle": Attack(_bytes_of(_cycle()), "first", "cycle"),
    "constant of 2 TiB": Attack(_bytes_of(_constant_of_shape()), "fill", "limit static-bytes"),
    "function bomb, 18 levels": Attack(_bytes_of(build.function_chain(18)), "bomb::f18", "limit expanded-nodes"),
    "function bomb, 24 levels": Attack(_bytes_of(build.function_chain(24)), "bomb::f", "limit expanded-nodes"),
    "function bomb, 1000 levels": Attack(_bytes_of(build.function_chain(1000)), "bomb::f", "limit expanded-nodes"),
    "foreign binary": Attack(_bytes_of(_ep_context()), "blob", "EPContext"),
}

# ---------------------------------------------------------------- more external data

_MARKER = "*/_ORT_MEM_ADDR_/*"


def _marker_in_default_location() -> onnx.ModelProto:
    made = build.add_weight()
    made.graph.initializer[0].external_data.add(key="location", value=_MARKER)
    return made


def _data_twice(folder: Path) -> onnx.ModelProto:
    _beside(folder)
    made = _external("w.bin")
    made.graph.initializer[0].raw_data = bytes(24)
    return made


def _external_string(folder: Path) -> onnx.ModelProto:
    _beside(folder)
    made = _external("w.bin")
    made.graph.initializer[0].data_type = onnx.TensorProto.STRING
    return made


def _key_twice(folder: Path) -> onnx.ModelProto:
    made = _with_file()(folder)
    made.graph.initializer[0].external_data.add(key="location", value="other.bin")
    return made


EXTERNAL: dict[str, Attack] = {
    "parent in the middle": Attack(_parent_in_the_middle, "w", "'..'"),
    "link to a file inside": Attack(_symlink_inside, "w", "symbolic link"),
    "link in the path": Attack(_symlinked_folder, "w", "symbolic link"),
    "FIFO": Attack(_fifo, "w", "not a regular file"),
    "folder": Attack(_folder_as_data, "w", "not a regular file"),
    "missing file": Attack(_bytes_of(_external("nowhere.bin")), "w", "No such file"),
    "no location": Attack(_bytes_of(_external("")), "w", "names no file"),
    "only dots": Attack(_bytes_of(_external("././")), "w", "names no file"),
    "NUL": Attack(_bytes_of(_external("w.bin\0.txt")), "w", "NUL"),
    "backslash": Attack(_bytes_of(_external("..\\w.bin")), "w", "backslash"),
    "long file name": Attack(_bytes_of(_external("n" * 5000)), "w", "cannot be opened"),
    "offset past the end": Attack(_with_file(offset=4096), "w", "past its end"),
    "huge length": Attack(_with_file(length=10**30), "w", "whole number"),
    "offset in other digits": Attack(_with_file(offset="٣"), "w", "whole number"),
    "file too short": Attack(_with_file(8), "w", "past its end"),
    "length above the dims": Attack(_with_file(64, length=64), "w", "the dims ask for 24 bytes"),
    "wrong checksum": Attack(_with_file(checksum="0" * 40), "w", "SHA1"),
    "address marker": Attack(_bytes_of(_external(_MARKER, offset=4096, length=24)), "w", "memory of the process"),
    "hidden address marker": Attack(_bytes_of(_marker_in_default_location()), "w", "memory of the process"),
    "data twice": Attack(_data_twice, "w", "inside the file, too"),
    "strings": Attack(_external_string, "w", "strings"),
    "key twice": Attack(_key_twice, "w", "twice"),
}

# ---------------------------------------------------------------- tensors, names, sizes, versions


def _tensor_with(change: Callable[[onnx.TensorProto], object]) -> Callable[[Path], onnx.ModelProto]:
    made = build.add_weight()
    change(made.graph.initializer[0])
    return _bytes_of(made)


def _typed(kind: int, dims: tuple[int, ...], field: str, values: list[int]) -> Callable[[Path], onnx.ModelProto]:
    def change(weight: onnx.TensorProto) -> None:
        weight.CopyFrom(onnx.TensorProto(name="w", data_type=kind, dims=dims))
        getattr(weight, field).extend(values)

    return _tensor_with(change)


def _nodes(*nodes: onnx.NodeProto, **options: object) -> Callable[[Path], onnx.ModelProto]:
    return _bytes_of(build.model(list(nodes), **options))  # type: ignore[arg-type]


def _later_in_a_body() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Relu", ["late"], ["o"], name="inner")], "b", [], [build.value("o", None)]
    )
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["p"])], "b", [], [build.value("p", None)])
    nodes = [
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=body, else_branch=other),
        helper.make_node("Relu", ["x"], ["late"], name="maker"),
    ]
    return build.model(nodes, [build.value("x"), build.value("c", (), onnx.TensorProto.BOOL)])


def _recursion() -> onnx.ModelProto:
    made = build.function_chain(3)
    made.functions[0].node[0].CopyFrom(helper.make_node("f3", ["a"], ["b"], domain="bomb"))
    return made


def _opset(version: int) -> Callable[[Path], onnx.ModelProto]:
    return _bytes_of(build.model([helper.make_node("Relu", ["x"], ["y"])], opset=version))


def _with_constant(op: str, shape: list[int], *before: str) -> Callable[[Path], onnx.ModelProto]:
    node = helper.make_node(op, [*before, "n"], ["y"], name="big")
    return _bytes_of(build.model([node], initializers=[build.tensor("n", shape, "int64")]))


def _range(start: int, stop: int, step: int) -> Callable[[Path], onnx.ModelProto]:
    bounds = [build.tensor(n, v, "int64") for n, v in (("a", start), ("b", stop), ("c", step))]
    node = helper.make_node("Range", ["a", "b", "c"], ["y"], name="big")
    return _bytes_of(build.model([node], [], [build.value("y", None, build.INT64)], bounds))


def _bomb_by_arithmetic() -> onnx.ModelProto:
    """The size is a product of constants: only shape inference with data propagation sees it."""
    nodes = [
        helper.make_node("Mul", ["n", "n"], ["m"], name="square"),
        helper.make_node("ConstantOfShape", ["m"], ["y"], name="fill"),
    ]
    return build.model(nodes, [], None, [build.tensor("n", [2**10, 2**11], "int64")])


def _bomb_in_a_function() -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 20)]
    shape = helper.make_node("Constant", [], ["s"], value=build.tensor("v", [2**20, 2**20], "int64"))
    nodes = [shape, helper.make_node("ConstantOfShape", ["s"], ["b"], name="fill")]
    function = helper.make_function("mine", "F", ["a"], ["b"], nodes, imports)
    call = helper.make_node("F", ["x"], ["y"], domain="mine", name="call")
    return build.model([call], domains=[("mine", 1)], functions=[function])


def _sparse(indices: list[int], dims: list[int]) -> Callable[[Path], onnx.ModelProto]:
    made = build.model([helper.make_node("Add", ["x", "w"], ["y"], name="add")])
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(build.tensor("w", [1.0] * len(indices)), build.tensor("i", indices, "int64"), dims)
    )
    return _bytes_of(made)


_RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")
_LONG = "n" * 10_000_000

OTHER: dict[str, Attack] = {
    "unknown element type": Attack(_tensor_with(lambda t: setattr(t, "data_type", 99)), "w", "data_type = 99"),
    "no element type": Attack(_tensor_with(lambda t: t.ClearField("data_type")), "w", "data_type = 0"),
    "raw data too short": Attack(_tensor_with(lambda t: setattr(t, "raw_data", bytes(23))), "w", "less data"),
    "raw data too long": Attack(_tensor_with(lambda t: setattr(t, "raw_data", bytes(25))), "w", "more data"),
    "no data": Attack(_tensor_with(lambda t: t.ClearField("raw_data")), "w", "less data"),
    "raw and typed data": Attack(_tensor_with(lambda t: t.float_data.extend([1.0])), "w", "stored twice"),
    "typed data too short": Attack(_typed(build.INT64, (2,), "int64_data", [1]), "w", "less data"),
    "wrong typed field": Attack(_typed(build.INT64, (2,), "int32_data", [1, 2]), "w", "wrong field"),
    "int8 of 300": Attack(_typed(build.INT8, (1,), "int32_data", [300]), "w", "outside its type"),
    "packed int4 too long": Attack(_typed(onnx.TensorProto.INT4, (3,), "int32_data", [1, 2, 3]), "w", "more data"),
    "rank 9": Attack(_bytes_of(_dims(2, 3, 1, 1, 1, 1, 1, 1, 1)), "w", "limit rank = 8"),
    "input of rank 9": Attack(_nodes(_RELU, inputs=[build.value("x", (1,) * 9)]), "x", "limit rank = 8"),
    "input with dim -5": Attack(_nodes(_RELU, inputs=[build.value("x", (-5, 3))]), "x", "negative dim"),
    "input without a type": Attack(_nodes(_RELU, inputs=[onnx.ValueInfoProto(name="x")]), "x", "no type"),
    "giant input": Attack(_nodes(_RELU, inputs=[build.value("x", (2**40, 2**40))]), "x", "limit static-bytes"),
    "self loop": Attack(_nodes(helper.make_node("Relu", ["y"], ["y"], name="self")), "self", "cycle"),
    "not sorted": Attack(
        _nodes(
            helper.make_node("Relu", ["a"], ["y"], name="user"), helper.make_node("Abs", ["x"], ["a"], name="maker")
        ),
        "user",
        "before it is made",
    ),
    "later value in a body": Attack(_bytes_of(_later_in_a_body()), "branch", "before it is made"),
    "dangling input": Attack(_nodes(helper.make_node("Add", ["x", "ghost"], ["y"], name="add")), "add", "'ghost'"),
    "dangling output": Attack(_nodes(_RELU, outputs=[build.value("ghost")]), "ghost", "nothing makes"),
    "two makers": Attack(_nodes(_RELU, helper.make_node("Abs", ["x"], ["y"], name="abs")), "y", "relu and by abs"),
    "two initialisers": Attack(_nodes(_RELU, initializers=[build.tensor("w", [1])] * 2), "w", "two initialisers"),
    "two inputs": Attack(_nodes(_RELU, inputs=[build.value("x")] * 2), "x", "two inputs"),
    "output over an initialiser": Attack(_nodes(_RELU, initializers=[build.tensor("y", [1])]), "y", "made by an input"),
    "function recursion": Attack(_bytes_of(_recursion()), "bomb::f0", "call themselves"),
    "deep function chain": Attack(_bytes_of(build.function_chain(100, 1)), "bomb::f", "limit function-nesting"),
    "nested graphs": Attack(_bytes_of(build.nested_if(16)), "if1", "limit graph-nesting"),
    "very deep nesting": Attack(lambda _: build.deep_wire(60), "model.onnx", "nested deeper than 100"),
    "long node name": Attack(_nodes(helper.make_node("Relu", ["x"], ["y"], name=_LONG)), "n", "limit name-length"),
    "long value name": Attack(
        _nodes(helper.make_node("Relu", ["x"], [_LONG]), outputs=[build.value(_LONG)]), "n", "limit name-length"
    ),
    "shape with -1": Attack(_with_constant("ConstantOfShape", [-1]), "big", "negative dim"),
    "expand bomb": Attack(_with_constant("Expand", [2**30, 2, 3], "x"), "big", "limit static-bytes"),
    "tile bomb": Attack(_with_constant("Tile", [2**30, 2**10], "n"), "big", "limit static-bytes"),
    "tile bomb on an input": Attack(_with_constant("Tile", [2**30, 2**10], "x"), "y", "limit static-bytes"),
    "shape beyond 64 bits": Attack(_with_constant("ConstantOfShape", [2**62] * 4), "big", "limit static-bytes"),
    "range bomb": Attack(_range(0, 2**62, 1), "big", "limit static-bytes"),
    "range of step 0": Attack(_range(0, 10, 0), "big", "step is 0"),
    "random bomb": Attack(
        _nodes(helper.make_node("RandomNormal", [], ["y"], name="big", shape=[2**20, 2**20])), "big", "static-bytes"
    ),
    "size by arithmetic": Attack(_bytes_of(_bomb_by_arithmetic()), "fill", "limit static-bytes"),
    "bomb in a function": Attack(_bytes_of(_bomb_in_a_function()), "fill", "limit static-bytes"),
    "sparse index outside": Attack(_sparse([0, 99], [2, 3]), "w", "outside the dims"),
    "sparse bomb": Attack(_sparse([0], [2**20, 2**20]), "w", "when dense"),
    "IR version 14": Attack(_bytes_of(build.model([_RELU], ir_version=14)), "ir_version", "1 to 13"),
    "opset 27": Attack(_opset(27), "opset_import", "1 to 26"),
    "opset 0": Attack(_opset(0), "opset_import", "1 to 26"),
    "domain not imported": Attack(
        _nodes(helper.make_node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")), "g", "not imported"
    ),
    "unknown operator": Attack(_nodes(helper.make_node("Reluu", ["x"], ["y"], name="my relu")), "my relu", "Reluu"),
    "unknown attribute": Attack(_nodes(helper.make_node("Relu", ["x"], ["y"], name="r", foo=1)), "r", "foo"),
    "shapes that do not fit": Attack(
        _nodes(helper.make_node("MatMul", ["x", "x"], ["y"], name="mm")), "mm", "Incompatible dimensions"
    ),
    "output of another type": Attack(_nodes(_RELU, outputs=[build.value("y", (2, 3), build.INT64)]), "y", "INT64"),
    "scale NaN": Attack(_bytes_of(build.quantize(float("nan"))), "q", "not finite"),
    "scale infinite": Attack(_bytes_of(build.quantize(float("inf"))), "q", "not finite"),
    "scale 0": Attack(_bytes_of(build.quantize(0.0)), "q", "not above 0"),
    "scale negative": Attack(_bytes_of(build.quantize(-0.5)), "q", "not above 0"),
    "scale subnormal": Attack(_bytes_of(build.quantize(1e-40)), "q", "subnormal"),
    "scale NaN in float16": Attack(_bytes_of(build.quantize(float("nan"), kind="float16")), "q", "not finite"),
    "scale and zero point differ": Attack(_bytes_of(build.quantize([0.5, 0.5], [0])), "q", "differ in size"),
    "int32 zero point": Attack(_bytes_of(build.quantize(0.5, 3, zero_kind="int32")), "dq", "is not 0"),
}
