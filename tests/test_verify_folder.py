"""verify of output folders: hashes, hostile models, limits, the user's own inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from h4hc.errors import IntegrityError, LimitError, ModelFileError, NumericsError, UserError
from h4hc.outdir import OutputFolder
from h4hc.partitioned import model_bytes, partition_models, partitioned_model
from h4hc.schedule import Schedule
from h4hc.verification import Status, Verdict
from h4hc.verify import Bounds, verify_folder
from tests.partition_models import hybrid, hybrid_plan, legal, make_model, one_each
from tests.test_verify import change_weight, onnx_of, weight

FLOAT = TensorProto.FLOAT


def folder(
    out: Path,
    original: onnx.ModelProto | None = None,
    partitions: dict[str, onnx.ModelProto] | None = None,
    plan: tuple[ir.Model, Schedule] | None = None,
) -> Path:
    """An output folder as compile writes it (of the hybrid), with these in place of the right models."""
    graph, schedule = plan or hybrid_plan()
    with OutputFolder(out, {"target": "npu+cim"}) as writer:
        writer.add("original.onnx", model_bytes(original or onnx_of(graph)), "original")
        writer.add("legalised.onnx", model_bytes(onnx_of(graph)), "legalised")
        writer.add("host.functions.onnx", model_bytes(partitioned_model(graph, schedule)), "partitioned")
        for name, part in (partitions or partition_models(graph, schedule)).items():
            writer.add(f"partitions/{name}.onnx", model_bytes(part), "partition")
    return out


def test_folder_is_verified(tmp_path: Path) -> None:
    result = verify_folder(folder(tmp_path / "out"), samples=2)
    assert result.status == Status.VERIFIED
    assert len(result.comparisons) == 8
    assert {c.verdict for c in result.comparisons} == {Verdict.BIT_EQUAL}


def test_folder_with_another_model(tmp_path: Path) -> None:
    spoilt = hybrid()
    change_weight(spoilt, "w2", 0.5)
    with pytest.raises(NumericsError) as caught:
        verify_folder(folder(tmp_path / "out", original=spoilt))
    assert caught.value.problems[0].where == ("conv2",)


def test_folder_with_a_changed_or_missing_file(tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    data = bytearray((out / "legalised.onnx").read_bytes())
    data[-1] ^= 1
    (out / "legalised.onnx").write_bytes(data)
    (out / "partitions" / "p1_npu.onnx").unlink()
    with pytest.raises(IntegrityError) as caught:
        verify_folder(out)
    assert [p.where for p in caught.value.problems] == [("legalised.onnx",), ("partitions/p1_npu.onnx",)]


def test_folder_without_a_called_partition(tmp_path: Path) -> None:
    graph, plan = hybrid_plan()
    parts = partition_models(graph, plan)
    del parts["p1_npu"]
    with pytest.raises(IntegrityError, match=r"p1_npu.onnx is missing"):
        verify_folder(folder(tmp_path / "out", partitions=parts))


def test_folder_without_models(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", {}) as writer:
        writer.add("report.json", b"{}", "report")
    with pytest.raises(IntegrityError, match="no models to verify"):
        verify_folder(tmp_path / "out")


def test_folder_with_a_hostile_model(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 32)
    graph, plan = hybrid_plan()
    for where in ("original", "partition"):
        bad = hybrid() if where == "original" else partition_models(graph, plan)["p1_npu"]
        tensor = weight(bad, "w2")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
        parts = {**partition_models(graph, plan), **({} if where == "original" else {"p1_npu": bad})}
        out = folder(tmp_path / where, bad if where == "original" else None, parts)
        with pytest.raises(ModelFileError):
            verify_folder(out)


def test_folder_limits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"], "fill"),
        helper.make_node("ReduceSum", ["big"], ["sum"], "sum", keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"], "add"),
    ]
    model = make_model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, {"shape": np.array([2**28])})
    out = folder(tmp_path / "out", plan=(legal(model), one_each(legal(model))))
    with pytest.raises(LimitError, match="not enough memory to run the original model"):
        verify_folder(out, bounds=Bounds(memory_bytes=1200 * 2**20))
    with pytest.raises(LimitError, match="takes too long"):
        verify_folder(out, bounds=Bounds(wall_seconds=0))
    with pytest.raises(LimitError, match="was stopped at"):
        verify_folder(out, bounds=Bounds(cpu_seconds=0))


def test_inputs_from_npz(tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    np.savez(tmp_path / "good.npz", x=np.ones((1, 3, 6, 6), np.float32))
    result = verify_folder(out, inputs=tmp_path / "good.npz")
    assert result.inputs[0].filled == "given"
    np.savez(tmp_path / "bad.npz", x=np.ones((1, 3, 6, 7), np.float64), other=np.ones(1))
    with pytest.raises(UserError) as caught:
        verify_folder(out, inputs=tmp_path / "bad.npz")
    text = " ".join(f"{p.what} {p.why}" for p in caught.value.problems)
    for part in ("wrong type", "float64", "wrong shape", "[1, 3, 6, 7]", "'other', which is no input"):
        assert part in text
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], dtype=object))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    np.savez(tmp_path / "empty.npz", unrelated=np.ones(1))
    for name, what in (
        ("pickle", "cannot read"),
        ("junk", "cannot read"),
        ("none", "cannot read"),
        ("empty", "has no value"),
    ):
        with pytest.raises(UserError, match=what):
            verify_folder(out, inputs=tmp_path / f"{name}.npz")
