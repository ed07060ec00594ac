"""Feature maps as the passes see them: height, width and channels, and where the tensors of an operator lie."""

from __future__ import annotations

from math import prod

from h4hc.workload import Layout, Tensor, Workload
from targets.ethos_u.axes import Shape, memory_shape
from targets.ethos_u.work import Format, Hwc, Place, Work

IMAGE_RANK = 4
IMAGE_RANKS = (3, IMAGE_RANK)  # those of one spatial axis are one row high


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
    image = len(tensor.shape) in IMAGE_RANKS and tensor.layout is Layout.CHANNELS_LAST
    return "brick" if inner and image else "nhwc"


def place_of(name: str, workload: Workload) -> Place:
    return "outer" if name in workload.inputs or name in workload.outputs else "inner"


def reading(work: Work, name: str, workload: Workload) -> Work:
    """A pass that reads a tensor first."""
    return work._replace(ifm_format=stored_format(name, workload), ifm_place=place_of(name, workload))


def image_copies(shape: Shape) -> Work:
    """A copy, or a new scale, of a map in the order of memory: a pass for each image of a batch."""
    axes = list(shape)
    while len(axes) > IMAGE_RANK and 1 in axes:
        axes.remove(1)
    batch = prod(axes[: 1 - IMAGE_RANK]) if len(axes) >= IMAGE_RANK else 1
    return requantised(folded(tuple(axes[1 - IMAGE_RANK :])))._replace(times=batch)


def requantised(shape: Hwc) -> Work:
    """A pass that only brings values to another scale."""
    return Work("pool", "other", shape, shape)
