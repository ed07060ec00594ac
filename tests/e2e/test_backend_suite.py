"""Every single-node model of the ONNX backend test suite that onnxruntime runs: compile it, verify it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.onnx_cpp2py_export as extension
import pytest

from h4hc import sandbox
from h4hc.api import CompileOptions, compile_model
from h4hc.errors import H4hcError
from h4hc.loading import child
from h4hc.ortrun import Level, OrtError, Runner
from h4hc.partitioned import legalised_model, partition_models, partitioned_model
from h4hc.verification import Verification
from h4hc.verify_models import verify_models

COMPILED_SHARE = 0.95  # of the models that onnxruntime runs with the suite's own results
FEWEST = 1300  # of 1884 (onnx 1.23, onnxruntime 1.31: the rest has newer opsets, or types it has no kernel for)


@dataclass
class Tally:
    """What became of the models; reasons by model name."""

    compiled: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """For the end of the test run."""
        total = self.compiled + len(self.refused)
        lines = [f"backend suite: onnxruntime runs {total}, compiled {self.compiled}, verified {self.statuses}"]
        lines += [f"  refused  {name}: {reason}" for name, reason in sorted(self.refused.items())]
        lines += [f"  WRONG    {name}: {reason}" for name, reason in sorted(self.wrong.items())]
        return "\n".join(lines)


def cases() -> list[Any]:
    """The suite's node tests, with the noise of numpy computing their references kept away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return list(collect_testcases(None))


def as_input(value: Any) -> Any:
    """onnxruntime takes arrays and lists of them."""
    if isinstance(value, list):
        return [np.asarray(item) if item is not None else None for item in value]
    return np.asarray(value) if isinstance(value, np.generic) else value


def agrees(wanted: Any, got: Any, rtol: float, atol: float) -> bool:
    """Whether onnxruntime gives the suite's own reference."""
    if isinstance(wanted, list):
        return isinstance(got, list) and len(wanted) == len(got) and all(
            agrees(w, g, rtol, atol) for w, g in zip(wanted, got, strict=True)
        )  # fmt: skip
    if wanted is None or got is None:
        return wanted is got
    a, b = np.asarray(wanted), np.asarray(got)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "OUSb" or b.dtype.kind in "OUSb":
        return bool((a == b).all())
    return bool(np.allclose(a.astype(np.complex128), b.astype(np.complex128), rtol, atol, equal_nan=True))


def runs(case: Any, feeds: dict[str, Any]) -> bool:
    """Whether onnxruntime runs the model. Random operators have no reference that could be met."""
    try:
        got = Runner(case.model.SerializeToString(), Level.DISABLE_ALL).run(feeds)
    except OrtError:
        return False
    drawn = {"RandomNormal", "Bernoulli", "Dropout", "Multinomial", "RandomUniform"}
    if drawn & {n.op_type.removesuffix("Like") for n in case.model.graph.node}:
        return True
    wanted = case.data_sets[0][1]
    return all(agrees(w, g, case.rtol, case.atol) for w, g in zip(wanted, got.values(), strict=True))


def shapes(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[str, ...]:
    """--input-shape for inputs with free dims, as a user would give it."""
    found = []
    for value in model.graph.input:
        tensor = value.type.tensor_type
        array = feeds.get(value.name)
        if isinstance(array, np.ndarray) and (
            not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim)
        ):
            found.append(f"{value.name}={','.join(str(d) for d in array.shape)}")
    return tuple(found)


def try_one(case: Any, feeds: dict[str, Any], tally: Tally) -> None:
    """Compile and verify one model."""
    options = CompileOptions(target="npu+cim", input_shapes=shapes(case.model, feeds))
    try:
        done = compile_model(case.model.SerializeToString(), options)
    except H4hcError as error:
        tally.refused[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return
    tally.compiled += 1
    assert done.run is not None
    assert done.schedule is not None
    legal, plan = done.run.model, done.schedule
    original = onnx.ModelProto.FromString(done.loaded.original)
    try:
        result: Verification = verify_models(
            original,
            legalised_model(legal),
            partitioned_model(legal, plan),
            [feeds],
            partitions=partition_models(legal, plan),
        )
    except H4hcError as error:
        tally.wrong[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return
    tally.statuses[str(result.status)] = tally.statuses.get(str(result.status), 0) + 1


@pytest.fixture
def quick_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's models mean well: the ONNX checker runs here and not in a process each, with the same code."""

    def call(_: str, request: bytes, __: Any) -> bytes:
        return child._run(extension, request)

    monkeypatch.setattr(sandbox, "_call", call)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_sandbox")
def test_backend_suite(record_property: Callable[[str, object], None]) -> None:
    tally = Tally()
    for case in cases():
        names = [value.name for value in case.model.graph.input]
        feeds = {name: as_input(value) for name, value in zip(names, case.data_sets[0][0], strict=True)}
        if runs(case, feeds):
            try_one(case, feeds, tally)
    record_property("summary", tally.text())
    total = tally.compiled + len(tally.refused)
    assert total >= FEWEST
    assert tally.compiled >= COMPILED_SHARE * total, tally.text()
    assert not tally.wrong, tally.text()
