"""The child process of `h4hc.sandbox`: runs the checker and the shape inference of onnx on untrusted bytes.

Started by path, isolated (`python -I -S child.py EXTENSION MEMORY_BYTES CPU_SECONDS`), and imports nothing but the
C++ extension of onnx, which saves two thirds of the start: 0.07 s of CPU instead of 0.2 s. stdin: four 8-byte lengths
and four byte strings: the stages to run ("c" checker, "i" inference), the model without inputs and outputs, and two
tails (for checker and inference) that protobuf merges into it when they are put behind it. stdout: one letter and a
text or a model: "O" + inferred model, "c" + message of the checker, "M" out of memory, or "i" + 8-byte length of a
message + message + inferred model when inference ran into a contradiction.
"""

import importlib.machinery
import importlib.util
import resource
import struct
import sys
from typing import Any


def _bound(memory_bytes: int, cpu_seconds: int) -> None:
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, hard))
        except (ValueError, OSError):  # macOS refuses RLIMIT_AS; the parent's wall clock still holds
            continue


def _load_extension(path: str) -> Any:
    name = "onnx_cpp2py_export"
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _parts(data: bytes) -> list[bytes]:
    sizes = struct.unpack_from("<4Q", data)
    parts, at = [], 32
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def _run(extension: Any, data: bytes) -> bytes:
    stages, body, check_tail, infer_tail = _parts(data)
    if b"c" in stages:
        try:
            extension.checker.check_model(body + check_tail, False, False, False)
        except MemoryError:
            raise
        except Exception as error:  # any refusal of the C++ code is an answer, passed on as it is
            return b"c" + str(error).encode("utf-8", "replace")
    if b"i" not in stages:
        return b"O"
    return _infer(extension.shape_inference.infer_shapes, body + infer_tail)


def _infer(infer_shapes: Any, model: bytes) -> bytes:
    """Strict inference; where it fails, the lenient one with the message.

    Arguments behind the model: check_type, strict_mode, data_prop. onnxruntime refuses what fails strictly without
    data propagation; a failure only with it may be onnx's own.
    """
    try:
        return b"O" + bytes(infer_shapes(model, False, True, True))
    except MemoryError:
        raise
    except Exception:
        message = ""
    try:
        infer_shapes(model, False, True, False)
    except MemoryError:
        raise
    except Exception as error:
        message = str(error)
    text = message.encode("utf-8", "replace")
    try:
        lenient = bytes(infer_shapes(model, False, False, True))
    except MemoryError:
        raise
    except Exception as error:
        text, lenient = str(error).encode("utf-8", "replace"), b""
    return b"i" + struct.pack("<Q", len(text)) + text + lenient


def main(argv: list[str]) -> None:
    """Read the request, run it within the bounds, write the answer."""
    try:
        extension = _load_extension(argv[1])
        _bound(int(argv[2]), int(argv[3]))
        answer = _run(extension, sys.stdin.buffer.read())
        sys.stdout.buffer.write(answer)
    except MemoryError:
        sys.stdout.buffer.write(b"M")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv)
