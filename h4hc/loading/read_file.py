"""Reads the model file once into memory, with a cap."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from h4hc.errors import ModelFileError, UserError
from h4hc.limits import Limits
from h4hc.units import format_bytes


def read_model_file(path: Path, limits: Limits) -> bytes:
    """The bytes of a regular file of at most `limits.model_bytes`.

    Raises UserError (exit 2) when there is no such file, ModelFileError (exit 3) when it is not a regular file,
    cannot be read, or is over the limit.
    """
    where = (str(path),)
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UserError("there is no such model file", where=where, hint="check the path") from error
    except (OSError, ValueError) as error:
        raise ModelFileError("the model file cannot be opened", where=where, why=_reason(error)) from error
    state = os.fstat(descriptor)
    if stat.S_ISDIR(state.st_mode):
        os.close(descriptor)
        raise ModelFileError("the model path is a folder", where=where, hint="give the .onnx file in it")
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(state.st_mode):
            raise ModelFileError("the model path is not a regular file", where=where, why="a regular file is needed")
        if state.st_size > limits.model_bytes:
            raise ModelFileError(
                "the model file is too big",
                where=where,
                why=f"{format_bytes(state.st_size)}, limit model-bytes = {format_bytes(limits.model_bytes)}",
                hint="raise it with --limit model-bytes=...; above 2 GiB store the weights as external data",
            )
        try:
            data = stream.read(state.st_size + 1)
        except OSError as error:
            raise ModelFileError("the model file cannot be read", where=where, why=_reason(error)) from error
    if len(data) > state.st_size:
        raise ModelFileError("the model file grew while it was read", where=where, hint="wait until it is written")
    return data


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
