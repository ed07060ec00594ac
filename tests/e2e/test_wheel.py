"""The wheel alone, in an empty environment, outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_installs_in_an_empty_environment_and_compiles(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building leaves folders behind
    _run("git", "clone", "--quiet", str(ROOT), str(source), cwd=tmp_path)
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", str(source), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("h4hc-*.whl")
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"h4hc", "passes", "targets", "nas", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}

    _run(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    python = str(tmp_path / "empty" / "bin" / "python")
    _run(python, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check", str(wheel), cwd=tmp_path)
    h4hc = str(tmp_path / "empty" / "bin" / "h4hc")
    _run(h4hc, "zoo", "ds-cnn", "--int8", "-o", "kws.onnx", cwd=tmp_path)
    _run(h4hc, "compile", "kws.onnx", "--target", "npu+cim", "-o", "out", cwd=tmp_path)
    _run(h4hc, "verify", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "report.json").is_file()
    installed = _run(python, "-m", "pip", "list", "--format", "freeze", cwd=tmp_path)
    assert not any(line.startswith(("torch==", "ortools==", "jsonschema==")) for line in installed.splitlines())
