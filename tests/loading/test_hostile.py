"""Hostile files: each is refused with exit code 3 and the name of what is wrong; none costs time or memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from h4hc.errors import ExitCode, ModelFileError
from h4hc.limits import Limits
from h4hc.load import load_model
from tests.loading.hostile import EXTERNAL, MEASURED, OTHER, Attack

_ALL = {**MEASURED, **EXTERNAL, **OTHER}
# A process that starts another hands its own peak memory on to it, so a small one stands in between.
_LAUNCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))
"""


def _write(attack: Attack, folder: Path) -> Path:
    made = attack.build(folder)
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


@pytest.mark.parametrize("name", sorted(_ALL))
def test_refused_with_the_users_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = _write(_ALL[name], folder)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(ModelFileError) as caught:
        load_model(path, Limits())
    assert caught.value.exit_code == ExitCode.MODEL
    assert _ALL[name].says in str(caught.value)
    assert any(_ALL[name].names in where for p in caught.value.problems for where in p.where)
    assert len(str(caught.value)) < 4000  # a 10 MB name must not come back as a 10 MB message
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_the_command_exits_3_within_2_s_and_500_mb_and_writes_nothing(name: str, tmp_path: Path) -> None:
    """The bounds are the requirement. Time is CPU time, imports and child processes included: that is what the
    command takes on a machine that is not busy. The best of three runs, as a busy one stretches even that."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = _write(MEASURED[name], folder)
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "h4hc", "compile", str(path), "--target", "npu+cim", "-o", str(tmp_path / "out")]
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=2.0) >= 2.0:
        launched = subprocess.run([sys.executable, "-I", "-c", _LAUNCH, *command], capture_output=True, check=True)
        code, cpu_s, peak_bytes = json.loads(launched.stdout)
        assert code == 3
        assert peak_bytes < 500 * 10**6
        seconds.append(cpu_s)
    assert min(seconds) < 2.0
    assert sorted(tmp_path.rglob("*")) == before


def test_all_problems_at_once_and_a_cap() -> None:
    from onnx import helper

    from h4hc.load import load_bytes
    from tests.loading import build

    nodes = [helper.make_node("Add", [f"no{i}", f"none{i}"], [f"v{i}"], name=f"n{i}") for i in range(40)]
    made = build.model(nodes, outputs=[build.value("v0", None)])
    with pytest.raises(ModelFileError) as caught:
        load_bytes(made.SerializeToString(), None, Limits(), "m")
    problems = caught.value.problems
    assert len(problems) == 51
    assert problems[0].where == ("n0",)
    assert problems[-1].what == "and 30 more problems of this file"
