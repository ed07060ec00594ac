"""Scan of the raw protobuf bytes before protobuf parses them.

Parsing takes up to 75 times the bytes of the file: two bytes make an empty message of 150 (measured with the upb
parser). So the messages are counted on the wire first, by an explicit stack, together with what the parser would not
say or say badly: nesting, truncated fields, strings that are not UTF-8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from h4hc.errors import ModelFileError
from h4hc.limits import Limits

MAX_DEPTH = 100  # protobuf's own limit, kSlowMaxDepth of upb
_VARINT_BYTES = 10

_MESSAGE, _STRING, _OTHER = 0, 1, 2
_Table = tuple[str, dict[int, Any]]  # message name, field number -> (kind, field name, table of the sub-message)

# First bytes of files that users mistake for ONNX, and what they are.
_KNOWN_FORMATS = (
    (0, b"version https://git-lfs", "a git-lfs pointer, not the model itself: run `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch or Keras file?): export the model to ONNX, or unpack it"),
    (0, b"\x1f\x8b", "a gzip file: unpack it first"),
    (4, b"TFL3", "a TFLite model: convert it to ONNX, for example with tf2onnx"),
    (4, b"ORTM", "an onnxruntime .ort file: give the .onnx file it was made from"),
    (0, b"\x89HDF", "an HDF5 file: export the model to ONNX"),
    (0, b"\x80\x02", "a Python pickle: export the model to ONNX"),
    (0, b"<!DOCTYPE", "a web page: the download went wrong"),
    (0, b"<html", "a web page: the download went wrong"),
)


@lru_cache(maxsize=1)
def _tables() -> _Table:
    """The ONNX messages as nested tables, read from the descriptors of the installed onnx package."""
    import onnx

    done: dict[str, _Table] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    links: list[tuple[dict[int, Any], int, str, str]] = []
    while pending:
        descriptor = pending.pop()
        if descriptor.full_name in done:
            continue
        entries: dict[int, Any] = {}
        done[descriptor.full_name] = (descriptor.name, entries)
        for f in descriptor.fields:
            if f.message_type is not None:
                pending.append(f.message_type)
                links.append((entries, f.number, f.name, f.message_type.full_name))
            else:
                entries[f.number] = (_STRING if f.type == f.TYPE_STRING else _OTHER, f.name, None)
    for entries, number, name, target in links:
        entries[number] = (_MESSAGE, name, done[target])
    return done[onnx.ModelProto.DESCRIPTOR.full_name]


class _Malformed(Exception):
    """The bytes at `offset` are no protobuf; private to this file."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(why)
        self.offset = offset
        self.why = why


def _varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(pos, min(end, pos + _VARINT_BYTES)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise _Malformed(pos, "a number is cut off or longer than 10 bytes")


def _scan(data: bytes, limits: Limits, stack: list[tuple[int, _Table, str]]) -> None:
    pos, messages = 0, 0
    end, (_, table), _ = stack[-1]
    while True:
        while pos == end:
            stack.pop()
            if not stack:
                return
            end, (_, table), _ = stack[-1]
        tag = data[pos]
        if tag < 0x80:
            pos += 1
        else:
            tag, pos = _varint(data, pos, end)
        wire = tag & 7
        if tag < 8:
            raise _Malformed(pos - 1, "field number 0")
        if wire == 2:
            if pos < end and data[pos] < 0x80:
                size, pos = data[pos], pos + 1
            else:
                size, pos = _varint(data, pos, end)
            if pos + size > end:
                raise _Malformed(
                    pos, f"a field of {size} bytes where {end - pos} are left: the file is cut off or damaged"
                )
            kind, name, below = table.get(tag >> 3, (_OTHER, "", None))
            if kind == _MESSAGE:
                messages += 1
                if messages > limits.messages:
                    raise _Malformed(pos, f"more than {limits.messages} messages (limit messages)")
                if not size:
                    continue
                if len(stack) >= MAX_DEPTH:
                    raise _Malformed(pos, f"messages nested deeper than {MAX_DEPTH}, the limit of protobuf")
                end = pos + size
                stack.append((end, below, name))
                table = below[1]
                continue
            if kind == _STRING:
                _check_text(data, pos, pos + size, name)
            pos += size
        elif wire == 0:
            if pos < end and data[pos] < 0x80:
                pos += 1
            else:
                _, pos = _varint(data, pos, end)
        elif wire in (1, 5):
            pos += 8 if wire == 1 else 4
            if pos > end:
                raise _Malformed(end, "a number is cut off")
        else:
            raise _Malformed(pos - 1, f"wire type {wire}, which ONNX does not use")


def _check_text(data: bytes, start: int, end: int, name: str) -> None:
    try:
        data[start:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Malformed(start, f"the text of field {name!r} is not UTF-8") from error


def _guess(data: bytes) -> str:
    for offset, magic, meaning in _KNOWN_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            return meaning
    head = data[:256]
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "this looks like a text file; h4hc reads binary ONNX files (.onnx)"
    return "export the model again, and check that the file was copied whole"


def check_wire(data: bytes, limits: Limits, file_name: str) -> None:
    """Refuse bytes that protobuf would refuse, or that would make too many messages.

    Raises ModelFileError with the byte offset and the path of messages down to it.
    """
    if not data:
        raise ModelFileError(
            "the model file is empty", where=(file_name,), why="0 bytes", hint="export the model again"
        )
    root = _tables()
    stack = [(len(data), root, "")]
    try:
        _scan(data, limits, stack)
    except _Malformed as error:
        path = " > ".join(name or table[0] for _, table, name in stack[:12])
        raise ModelFileError(
            "the file is not a valid ONNX model",
            where=(file_name,),
            why=f"byte {error.offset}, in {path}: {error.why}",
            hint=_guess(data),
        ) from error
