"""Make a zoo model: float, or int8 with QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from h4hc.errors import UserError
from h4hc.zoo.images import sample_images
from h4hc.zoo.models import MODELS, ZooModel
from h4hc.zoo.net import Net, Statistics, Weights

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

# images that batch norm statistics and int8 ranges are taken from: more of the small ones, at equal cost
_PROBE_PIXELS = 500_000
_LEAST_IMAGES, _MOST_IMAGES = 8, 64
_MAX_SEED = 2**32 - 1  # what numpy's frozen generator takes


def build_model(name: str, seed: int = 0, int8: bool = False) -> onnx.ModelProto:
    """The zoo model `name` with weights drawn from `seed`; the same bytes for the same arguments.

    int8: quantised by onnxruntime's static quantisation (QDQ, per channel; see `h4hc.zoo.quantize`).
    Raises UserError for an unknown name (listing the known ones) or a seed outside 0 .. 2**32 - 1.
    """
    if name not in MODELS:
        raise UserError(
            f"there is no zoo model {name!r}", why=f"known models: {', '.join(MODELS)}", hint="see `h4hc zoo list`"
        )
    if not 0 <= seed <= _MAX_SEED:
        raise UserError(f"seed {seed} is out of range", where=("--seed",), why=f"0 to {_MAX_SEED} is allowed")
    images = _probe_images(MODELS[name].input_shape, seed)
    model, keep_float = _float_model(MODELS[name], seed, images)
    if not int8:
        return model
    from h4hc.zoo.quantize import quantize

    return quantize(model, images, keep_float)


def _probe_images(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    _, _, height, width = shape
    count = min(max(_PROBE_PIXELS // (height * width), _LEAST_IMAGES), _MOST_IMAGES)
    return sample_images(shape, count, seed)


def _float_model(entry: ZooModel, seed: int, images: NDArray[np.float32]) -> tuple[onnx.ModelProto, list[str]]:
    """The float model and the names of the nodes that quantisation leaves in float."""
    module, _, function = entry.build.partition(":")
    describe: Callable[[Net], None] = getattr(importlib.import_module(module), function)
    weights = Weights(seed)
    probe = Net(weights, len(images), statistics=None)
    describe(probe)
    statistics: Statistics = {}
    if probe.probes:
        statistics = _measure(probe.model(entry.name, ""), probe.probes, images)
    net = Net(weights, 1, statistics)
    describe(net)
    return net.model(entry.name, f"{entry.title}. Random weights, seed {seed}. {entry.source}"), net.keep_float


def _measure(model: onnx.ModelProto, probes: dict[str, tuple[str, str]], images: NDArray[np.float32]) -> Statistics:
    """Run the probe model; mean and variance of each batch norm's input by channel.

    Both are rounded to 8 significant bits (the mean relative to the standard deviation), so that the last
    digits of a machine's sums do not reach the model's bytes.
    """
    from h4hc.zoo.run import run_model

    names = [value for pair in probes.values() for value in pair]
    values = dict(zip(names, run_model(model, images, names), strict=True))
    statistics: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for path, (mean_name, variance_name) in probes.items():
        mean, variance = values[mean_name].reshape(-1), values[variance_name].reshape(-1)
        mean = round_to_step(mean, np.sqrt(variance))
        statistics[path] = (mean, round_to_step(variance, variance))
    return statistics


def round_to_step(values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to a multiple of 2**-8 of the power of two at or below `scale`."""
    step = np.exp2(np.floor(np.log2(scale)) - 8)
    rounded: NDArray[np.float32] = (np.rint(values / step) * step).astype(np.float32)
    return rounded
