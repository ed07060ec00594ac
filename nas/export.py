"""A network of a trained supernet as files that need no supernet: architecture, weights, ONNX, and a report.

The report shows that supernet, plain network and ONNX say the same, how accurate it is and what it costs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from h4hc.api import CompileOptions, Objective, compile_model
from h4hc.errors import NumericsError
from nas.config import Calibration, Hardware
from nas.data.splits import Data, Split
from nas.space.arch import Arch
from nas.supernet.macs import macs
from nas.supernet.onnx_writer import write_onnx
from nas.supernet.static import StaticNet
from nas.supernet.supernet import Supernet, calibrate, resize

PARITY = 1e-5  # allowed difference of ONNX and plain network, of the largest logit (1 at least)
COMPARED = 64  # images on which all three are run
BATCH = 250
Tree = dict[str, Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Equality:
    """Largest differences of logits over `images` images. supernet_static is 0 on a CPU: the same kernels."""

    images: int
    supernet_static: float
    static_onnxruntime: float
    largest_logit: float


@dataclass(frozen=True)
class Exported:
    """net: the plain network, in eval mode, on the CPU; files: name -> content."""

    net: StaticNet
    report: Tree
    files: dict[str, bytes]


def export(
    net: Supernet, arch: Arch, data: Data, calibration: Calibration, hardware: Hardware, targets: Sequence[str]
) -> Exported:
    """Calibrate and cut out `arch`; its files are arch.json, weights.safetensors, model.onnx, report.json.

    Accuracy on validation and test images: it is here that the test images are used. Latency and energy as `h4hc
    compile` plans the ONNX for each target; `hardware.sets` hold for its own target. Raises UserError where the space
    has no such network, NumericsError where the three forms differ, what compile_model raises.
    """
    net = net.cpu()
    net.space.genome(arch)
    images = [x for x, _ in data.train.batches(calibration.batch, calibration.batch * calibration.batches)]
    stats = calibrate(net, arch, images)
    static = net.slice(arch, stats)
    model = write_onnx(static)
    some, _ = next(iter(data.val.batches(COMPARED, COMPARED)))
    with torch.no_grad():
        supernet_logits = net(some, arch, stats).numpy()
    equality = compare(supernet_logits, static, model, some)
    onnx_bytes = model.SerializeToString()
    report = {
        "space": net.space.spec.name,
        "arch": arch.to_json(),
        "genome": list(net.space.genome(arch)),
        "macs": macs(arch, net.space.spec, net.classes),
        "parameters": sum(p.numel() for p in static.parameters()),
        "accuracy": {"val": accuracy(static, data.val), "test": accuracy(static, data.test)},
        "equality": asdict(equality) | {"allowed": PARITY * max(1.0, equality.largest_logit)},
        "objective": hardware.objective,
        "devices": {target: plan(onnx_bytes, target, hardware) for target in targets},
    }
    files = {
        "arch.json": as_json(arch.to_json()),
        "weights.safetensors": weights(static, arch),
        "model.onnx": onnx_bytes,
        "report.json": as_json(report),
    }
    return Exported(static, report, files)


def compare(supernet_logits: Floats, static: StaticNet, model: onnx.ModelProto, images: Tensor) -> Equality:
    """Logits of the three forms on the same images. Raises NumericsError where they differ by more than PARITY."""
    images = resize(images, static.arch.resolution)
    with torch.no_grad():
        plain = static(images).numpy()
    ran = run_onnx(model, images.numpy())
    largest = float(np.abs(plain).max())
    found = Equality(len(images), _apart(supernet_logits, plain), _apart(plain, ran), largest)
    worst = max(found.supernet_static, found.static_onnxruntime)
    if not worst <= PARITY * max(1.0, largest):
        why = f"logits differ by {worst:.3g}, {PARITY * max(1.0, largest):.3g} is allowed"
        raise NumericsError("supernet, plain network and ONNX do not agree", why=why, hint="this is a bug of h4hc")
    return found


def run_onnx(model: onnx.ModelProto, images: Floats) -> Floats:
    """Outputs of a model for images one at a time, on onnxruntime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": np.ascontiguousarray(image[None])})[0] for image in images])


@torch.no_grad()
def accuracy(static: StaticNet, split: Split) -> float:
    """Share of the images of a split that the network gets right."""
    right = total = 0
    for images, labels in split.batches(BATCH):
        right += int((static(resize(images, static.arch.resolution)).argmax(1) == labels).sum())
        total += len(labels)
    return right / total


def plan(model: bytes, target: str, hardware: Hardware) -> Tree:
    """What `h4hc compile` says of a model on a target."""
    sets = hardware.sets if target == hardware.target else ()
    done = compile_model(model, CompileOptions(target, sets, objective=Objective(hardware.objective)))
    assert done.assignment is not None
    found = done.assignment
    return {
        "latency_ps": found.latency_ps, "energy_pj": found.energy_pj, "plan": found.status.value,
        "sets": list(sets),
    }  # fmt: skip


def weights(net: torch.nn.Module, arch: Arch) -> bytes:
    """All tensors of a plain network as safetensors, its architecture in the metadata."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}
    return save(tensors, {"arch": json.dumps(arch.to_json())})  # one key: the order of several is not fixed


def _apart(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max())


def as_json(tree: Any) -> bytes:
    """A file of JSON."""
    return json.dumps(tree, indent=1).encode() + b"\n"
