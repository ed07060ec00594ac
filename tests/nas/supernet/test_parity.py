"""Supernet = sliced network, to the last bit; sliced network = its ONNX on onnxruntime; which compiles and verifies."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from h4hc.api import CompileOptions, compile_model, write_folder
from h4hc.verification import Status
from h4hc.verify import verify_folder
from nas.space.space import SearchSpace
from nas.supernet.onnx_writer import write_onnx, zero_onnx
from nas.supernet.static import StaticNet
from tests.nas.supernet.cases import CLASSES, archs, calibrated, images, random_supernet

TOLERANCE = 1e-5  # of logits on onnxruntime: another order of sums, folded layer scales
BIG = [pytest.param(name, marks=pytest.mark.slow) for name in ("alphanet", "h4h", "nasvit")]


BIG_ONE = [pytest.param(name, 1, marks=pytest.mark.slow) for name in ("alphanet", "h4h", "nasvit")]


def run(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"image": x.numpy()})[0]
    return found


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 1), ("odd", 2), *BIG_ONE])
def test_slices_are_equal_and_onnx_is_near(preset: str, batch: int) -> None:
    net = random_supernet(preset)
    for arch in archs(net.space, 20):
        stats, x = calibrated(net, arch), images(arch, net.space, batch)
        plain = net.slice(arch, stats)
        with torch.no_grad():
            shared, own = net(x, arch, stats), plain(x)
        assert own.std() > 1e-3
        assert torch.equal(shared, own)
        assert np.abs(run(write_onnx(plain, batch), x) - own.numpy()).max() <= TOLERANCE


def test_slices_are_equal_in_channels_last() -> None:
    net = random_supernet("tiny").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for arch in archs(net.space, 20):
        stats, x = calibrated(net, arch), images(arch, net.space).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            assert torch.equal(net(x, arch, stats), net.slice(arch, stats)(x))


def test_a_slice_is_plain_and_loads_from_a_file(tmp_path: Path) -> None:
    net = random_supernet("tiny")
    arch = archs(net.space, 0)[1]
    plain = net.slice(arch, calibrated(net, arch))
    own = {type(module).__module__.partition(".")[0] for module in plain.modules() if not list(module.children())}
    assert own <= {"torch", "nas"}
    assert not any(type(module).__name__.startswith("Dyn") for module in plain.modules())
    save_file(plain.state_dict(), tmp_path / "weights.safetensors")
    loaded = StaticNet(arch, net.space.spec, CLASSES).eval()
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = images(arch, net.space, 2)
    with torch.no_grad():
        assert torch.equal(loaded(x), plain(x))
        before = plain(x)
        for weight in net.parameters():  # copies, not views
            weight.zero_()
        assert torch.equal(plain(x), before)


@pytest.mark.filterwarnings("ignore")  # of torch's exporter
def test_onnx_agrees_with_the_exporter_of_torch() -> None:
    net = random_supernet("tiny")
    arch = archs(net.space, 0)[1]
    plain, x = net.slice(arch, calibrated(net, arch)), images(arch, net.space)
    buffer = io.BytesIO()
    torch.onnx.export(plain, (x,), buffer, input_names=["image"], dynamo=False, opset_version=17)  # type: ignore[arg-type]
    exported = run(onnx.load_from_string(buffer.getvalue()), x)
    assert np.abs(run(write_onnx(plain), x) - exported).max() <= TOLERANCE


@pytest.mark.parametrize("preset", ["alphanet", "h4h", "nasvit", "tiny"])
def test_zero_networks_have_the_same_graph(preset: str) -> None:
    space = SearchSpace.load(preset)
    for arch in archs(space, 1)[::2]:
        zero = zero_onnx(arch, space.spec, CLASSES)
        onnx.checker.check_model(zero, full_check=True)
        real = write_onnx(StaticNet(arch, space.spec, CLASSES).eval())
        assert zero.graph.node == real.graph.node
        shapes = [{c.name: tuple(c.dims) for c in model.graph.initializer} for model in (zero, real)]
        assert shapes[0] == shapes[1]


def test_blocks_end_in_stable_names() -> None:
    space = SearchSpace.load("tiny")
    arch = archs(space, 0)[1]
    ends = [name for node in zero_onnx(arch, space.spec, CLASSES).graph.node for name in node.output]
    wanted = ["stem.out", "s1.conv0.out", "s2.conv0.out", "s2.conv1.out", "s2.tokens.out", "s2.attn0.out",
              "s2.attn1.out", "s2.map.out", "s3.conv0.out", "s3.attn1.out", "s3.map.out", "logits"]  # fmt: skip
    assert [name for name in ends if name in wanted] == wanted


@pytest.mark.parametrize("end", [0, 1], ids=["min", "max"])
@pytest.mark.parametrize("preset", ["tiny", *BIG])
def test_exported_networks_compile_and_verify(preset: str, end: int, tmp_path: Path) -> None:
    net = random_supernet(preset)
    arch = archs(net.space, 0)[end]
    model = write_onnx(net.slice(arch, calibrated(net, arch)))
    done = compile_model(model.SerializeToString(), CompileOptions(target="npu+cim"))
    write_folder(done, tmp_path / "out")
    assert verify_folder(tmp_path / "out").status is Status.VERIFIED
