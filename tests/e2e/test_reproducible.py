"""The same command twice, with another hash seed and from another folder: the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from h4hc.zoo.build import build_model


def _tree(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "int8"), [("ds-cnn", False), ("hybrid-xxs", True), ("fpn-detector", False)])
def test_output_folder_is_byte_identical(name: str, int8: bool, tmp_path: Path) -> None:
    trees = []
    for seed in ("0", "1", "4242"):
        place = tmp_path / f"run {seed}"
        place.mkdir()
        onnx.save(build_model(name, seed=0, int8=int8), place / "model.onnx")
        command = [sys.executable, "-m", "h4hc", "compile", "model.onnx", "--target", "npu+cim", "-o", f"out{seed}"]
        subprocess.run(command, cwd=place, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True)
        trees.append(_tree(place / f"out{seed}"))
    assert trees[0].keys() >= {"report.json", "host.functions.onnx", "manifest.json"}
    assert trees[0] == trees[1] == trees[2]
