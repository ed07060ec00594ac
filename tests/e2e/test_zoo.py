"""Every zoo model, float and int8: compiled for NPU + CIM, written, verified; plan proved, ledger exact."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from h4hc.api import CompileOptions, compile_model, write_folder
from h4hc.assignment import Status
from h4hc.partitioned import model_bytes
from h4hc.report import make_report
from h4hc.reporting.schema_check import load_schema
from h4hc.verify import verify_folder
from h4hc.zoo.build import build_model
from h4hc.zoo.models import MODELS


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_compiles_and_verifies(name: str, int8: bool, tmp_path: Path) -> None:
    done = compile_model(model_bytes(build_model(name, seed=0, int8=int8)), CompileOptions("npu+cim"))
    assert done.workload is not None
    assert done.assignment is not None
    assert done.schedule is not None
    assert sum(op.macs for op in done.workload.ops) == MODELS[name].macs
    assert done.assignment.status is Status.OPTIMAL
    assert done.schedule.latency.nominal == done.assignment.latency_ps
    assert done.schedule.energy.nominal == done.assignment.energy_pj
    devices = {p.mode.device for p in done.assignment.placements}
    assert {"npu", "cim"} & devices, "a vision model gains nothing from either accelerator?"
    jsonschema.validate(make_report(done), load_schema("report"))
    write_folder(done, tmp_path / "out")
    result = verify_folder(tmp_path / "out")
    assert result.status == "verified", result
