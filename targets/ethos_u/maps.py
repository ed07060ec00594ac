"""Feature maps as the passes see them: height, width and channels, and where the tensors of an operator lie."""

from __future__ import annotations

from math import prod

from h4hc.workload import Layout, Tensor, Workload
from targets.ethos_u.axes import Shape, memory_shape
from targets.ethos_u.work import Format, Hwc, Place, Work

IMAGE_RANK = 4


def physical(tensor: Tensor) -> Hwc:
    """Height, width, channels of a tensor in its physical order; leading axes fold into the height."""
    return folded(memory_shape(tensor))


def folded(shape: Shape) -> Hwc:
    """Height, width, channels of a shape in the order of memory."""
    dims = (1, 1, 1, *(max(1, d) for d in shape))
    return prod(dims[:-2]), dims[-2], dims[-1]


def stored_format(name: str, workload: Workload) -> Format:
    """Inner feature maps are stored in bricks of 16 channels, the model's own tensors and all others plainly."""
    tensor = workload.tensor[name]
    inner = name not in workload.inputs and name not in workload.outputs
    image = len(tensor.shape) == IMAGE_RANK and tensor.layout is Layout.CHANNELS_LAST
    return "brick" if inner and image else "nhwc"


def place_of(name: str, workload: Workload) -> Place:
    return "outer" if name in workload.inputs or name in workload.outputs else "inner"


def reading(work: Work, name: str, workload: Workload) -> Work:
    """A pass that reads a tensor first."""
    return work._replace(ifm_format=stored_format(name, workload), ifm_place=place_of(name, workload))


def requantised(shape: Hwc) -> Work:
    """A pass that only brings values to another scale."""
    return Work("pool", "other", shape, shape)
