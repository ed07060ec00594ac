"""Files that are no ONNX models, and files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import onnx
import pytest

from h4hc.errors import ExitCode, ModelFileError, UserError
from h4hc.limits import Limits, parse
from h4hc.load import load_bytes, load_model
from tests.loading import build

_NO_MODELS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"this is not a model\n" * 20, "text file"),
    "json": (b'{"ir_version": 8}', "text file"),
    "zip": (b"PK\x03\x04" + bytes(64), "zip archive"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(64), "TFLite"),
    "zeros": (bytes(64), "field number 0"),
    "noise": (bytes(range(255, 0, -1)) * 8, "not a valid ONNX model"),
    "no graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph"),
    "a tensor": (build.tensor("w", [1.0, 2.0]).SerializeToString(), "not a valid ONNX model"),
    "invalid UTF-8": (build.field(7, build.field(1, build.field(3, b"\xff\xfe"))), "not UTF-8"),
    "group": (b"\x3b\x3c", "wire type 3"),
    "endless number": (b"\x08" + b"\xff" * 30, "longer than 10 bytes"),
    "cut number": (b"\x08\xff", "cut off"),
    "cut fixed number": (b"\x3d\x00", "cut off"),
    "many messages": (build.field(7, b"\x0a\x00" * 5_000_000), "limit messages"),
}


@pytest.mark.parametrize("name", sorted(_NO_MODELS))
def test_no_model(name: str, tmp_path: Path) -> None:
    data, says = _NO_MODELS[name]
    path = tmp_path / "thing.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        load_model(path, Limits())
    assert says in str(caught.value)
    assert caught.value.problems[0].where == ("thing.onnx",)


def test_every_truncation_is_an_error() -> None:
    data = build.add_weight().SerializeToString()
    whole = load_bytes(data, None, Limits(), "m")
    assert whole.original == data
    for end in range(0, len(data) - 8, 5):  # behind that, only the operator set import is lost
        with pytest.raises(ModelFileError):
            load_bytes(data[:end], None, Limits(), "m")


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "nowhere.onnx", Limits())
    assert caught.value.exit_code == ExitCode.USAGE


def test_folder_fifo_and_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, says in ((tmp_path, "folder"), (tmp_path / "fifo", "regular file"), (Path("/dev/zero"), "regular file")):
        with pytest.raises(ModelFileError, match=says):
            load_model(path, Limits())


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can read every file, so the refusal of the system is put in by hand."""
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelFileError, match="Permission denied"):
        load_model(path, Limits())


def test_too_big_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(10 << 30)  # sparse: takes no room on the disk
    with pytest.raises(ModelFileError, match="limit model-bytes"):
        load_model(path, Limits())
    with pytest.raises(ModelFileError, match="limit model-bytes = 1 KiB"):
        load_model(path, parse(("model-bytes=1K",)))
