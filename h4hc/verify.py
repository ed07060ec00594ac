"""verify: checks an output folder against its manifest, then runs its models and compares them.

The folder may come from anyone. So its hashes are checked first, its models go through the loader's checks, and
onnxruntime runs in a child process with limits on CPU time, wall clock and address space.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h4hc.errors as errors
from h4hc.errors import H4hcError, IntegrityError, InternalError, LimitError, Problem
from h4hc.limits import Limits
from h4hc.manifest import Manifest, check_folder, read_checked, read_manifest
from h4hc.units import MIB, format_bytes
from h4hc.verification import Verification

if TYPE_CHECKING:
    import onnx

ORIGINAL_FILE, LEGALISED_FILE, PARTITIONED_FILE = "original.onnx", "legalised.onnx", "host.functions.onnx"
PARTITION_FOLDER = "partitions"
_CHILD_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from h4hc.verify import child; child()"
_ENDED_BY_LIMIT = (signal.SIGXCPU, signal.SIGKILL)


@dataclass(frozen=True)
class Bounds:
    """What the child process may take: CPU time, time on the clock, address space. Policy of h4hc."""

    cpu_seconds: int = 600
    wall_seconds: int = 1800
    memory_bytes: int = 16 * 1024 * MIB


def verify_folder(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    samples: int = 1,
    inputs: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    bounds: Bounds | None = None,
) -> Verification:
    """Verify an output folder of `h4hc compile`.

    inputs: an .npz with one array an input, instead of `samples` sets made from `seed`. Raises IntegrityError (the
    folder is not what was written), ModelFileError (a model in it is unsafe), UnsupportedOpError (onnxruntime
    cannot run the original), UserError (no inputs it accepts), NumericsError (outputs differ; names the first node
    that does), LimitError.
    """
    root = Path(os.path.realpath(path))
    manifest = check_folder(root)
    _check_complete(manifest)
    request = {
        "folder": os.fspath(root),
        "seed": seed,
        "samples": samples,
        "inputs": None if inputs is None else os.path.abspath(inputs),
        "limits": asdict(limits or Limits()),
        "bounds": asdict(bounds or Bounds()),
    }
    return _run_child(request, bounds or Bounds())


def _check_complete(manifest: Manifest) -> None:
    """The three models must be in the folder."""
    known = {entry.path for entry in manifest.files}
    missing = [name for name in (ORIGINAL_FILE, LEGALISED_FILE, PARTITIONED_FILE) if name not in known]
    if missing:
        hint = "compile the model again, without --stop-after"
        raise IntegrityError("the folder has no models to verify", tuple(missing), "the manifest lists none", hint)


def _run_child(request: dict[str, Any], bounds: Bounds) -> Verification:
    command = [sys.executable, "-I", "-c", _CHILD_CODE, json.dumps([p or os.getcwd() for p in sys.path])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=bounds.wall_seconds,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise LimitError(
            "verification takes too long", why=f"stopped after {bounds.wall_seconds} s", hint="use fewer --samples"
        ) from error
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    answer = lines[-1] if lines else {}
    if "verification" in answer:
        return Verification.from_json(answer["verification"].encode())
    if "error" in answer:
        raise _rebuild(answer["error"], answer["problems"])
    raise _died(done.returncode, answer.get("step", "start"), done.stderr, bounds)


def _rebuild(kind: str, problems: list[dict[str, Any]]) -> H4hcError:
    """The error the child met, as if it had been raised here."""
    error_class: type[H4hcError] = getattr(errors, kind)
    return error_class.of(tuple(Problem(p["what"], tuple(p["where"]), p["why"], p["hint"]) for p in problems))


def _died(code: int, step: str, stderr: bytes, bounds: Bounds) -> H4hcError:
    if -code in _ENDED_BY_LIMIT:
        why = f"limit {bounds.cpu_seconds} s of CPU time, {format_bytes(bounds.memory_bytes)} of address space"
        return LimitError(f"verification was stopped at: {step}", why=why, hint="use fewer --samples")
    if code < 0:
        name = signal.Signals(-code).name
        why = f"its process ended with {name}, limit {format_bytes(bounds.memory_bytes)} of address space"
        return LimitError(f"onnxruntime crashed at: {step}", why=why, hint="the model drives onnxruntime into a bug")
    tail = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return InternalError(f"the verifying process failed at: {step}", why="".join(tail) or f"exit {code}")


def child() -> None:
    """The child process: reads a request on stdin, answers with JSON lines on stdout; what else is printed is not."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # libraries that print go to stderr

    def tell(**message: Any) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    request = json.loads(sys.stdin.buffer.read())
    _limit_self(Bounds(**request["bounds"]))
    try:
        result = _verify_here(request, lambda step: tell(step=step))
    except H4hcError as error:
        tell(error=type(error).__name__, problems=[asdict(p) for p in error.problems])
    except MemoryError:
        tell(error="LimitError", problems=[asdict(Problem("verification is out of memory", hint="raise the limit"))])
    else:
        tell(verification=result.to_json().decode())


def _limit_self(bounds: Bounds) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_seconds, bounds.cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))


def _verify_here(request: dict[str, Any], step: Any) -> Verification:
    from h4hc.verify_inputs import input_specs, load_npz
    from h4hc.verify_models import verify_models

    root = Path(request["folder"])
    limits = Limits(**request["limits"])
    manifest = read_manifest(root)  # the parent has checked the folder; each file is hashed again as it is read
    step("reading the models")
    entries = {entry.path: entry for entry in manifest.files}

    def model(name: str) -> onnx.ModelProto:
        if name not in entries:
            raise IntegrityError(f"{name} is missing", (name,), "the partitioned model calls it")
        return _checked(name, read_checked(root, entries[name]), limits)

    original, legalised, partitioned = (model(n) for n in (ORIGINAL_FILE, LEGALISED_FILE, PARTITIONED_FILE))
    partitions = {name: model(f"{PARTITION_FOLDER}/{name}.onnx") for name in _call_order(partitioned)}
    feeds = None
    if request["inputs"] is not None:
        feeds = [load_npz(Path(request["inputs"]), input_specs(original, legalised))]
    return verify_models(
        original,
        legalised,
        partitioned,
        feeds,
        partitions=partitions,
        seed=request["seed"],
        samples=request["samples"],
        step=step,
    )


def _call_order(partitioned: onnx.ModelProto) -> Iterator[str]:
    """Partition ids in execution order."""
    from h4hc.partitioned import DOMAIN, PARTITION

    for node in partitioned.graph.node:
        if node.domain == DOMAIN:
            ids = [prop.value for prop in node.metadata_props if prop.key == PARTITION]
            yield ids[0] if ids else node.op_type


def _checked(name: str, data: bytes, limits: Limits) -> onnx.ModelProto:
    """The model, after the loader's checks; without a folder, so that it can make nothing open another file.

    The checker and shape inference of ONNX run on the three whole models only: a partition's nodes are theirs.
    """
    import onnx

    from h4hc.load import check_model, load_bytes, parse_model

    if name.startswith(PARTITION_FOLDER):
        check_model(parse_model(data, limits, name), None, limits)
    else:
        load_bytes(data, None, limits, name)
    proto = onnx.ModelProto.FromString(data)  # again: the checks clean their copy up
    assert isinstance(proto, onnx.ModelProto)
    return proto
