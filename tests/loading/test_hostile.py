"""Hostile files: each is refused with exit code 3 and the name of what is wrong; none costs time or memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from h4hc.errors import ExitCode, ModelFileError
from h4hc.limits import Limits
from h4hc.load import load_model
from tests.loading.hostile import EXTERNAL, MEASURED, OTHER, Attack

_ALL = {**MEASURED, **EXTERNAL, **OTHER}
_LOAD = """
import sys
from pathlib import Path
from h4hc.errors import H4hcError
from h4hc.limits import Limits
from h4hc.load import load_model
try:
    load_model(Path(sys.argv[1]), Limits())
except H4hcError as error:
    sys.exit(int(error.exit_code))
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
def test_within_2_s_and_500_mb(name: str, tmp_path: Path) -> None:
    """The bounds are the requirement. Time is CPU time, imports and child processes included: that is what the
    command takes on a machine that is not busy. The best of three runs, as a busy one stretches even that."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = _write(MEASURED[name], folder)
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=2.0) >= 2.0:
        process = subprocess.Popen([sys.executable, "-c", _LOAD, str(path)])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 3
        assert usage.ru_maxrss * 1024 < 500 * 10**6
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) < 2.0


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
