"""The search space as its YAML states it: pydantic models, unknown keys refused."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

Act = Literal["relu", "hardswish", "swish"]
BlockType = Literal["mbconv", "conv"]
T = TypeVar("T", bound=tuple[object, ...])


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    """Choices run from small to large, so that the first is the minimum and the last the maximum."""
    if list(values) != sorted(set(values)):
        raise ValueError(f"choices must rise and differ, not {list(values)}")
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(v % 2 == 0 for v in values):
        raise ValueError(f"kernels are odd, not {list(values)}")
    return values


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"block types must differ, not {list(values)}")
    return values


def _finite(values: tuple[float, ...]) -> tuple[float, ...]:
    """After the items: said of the items, it would be said of whole numbers and of fractions."""
    if values[-1] == math.inf:
        raise ValueError("ratios are finite")
    return values


def _not_empty(values: T) -> T:
    """After the items: a length limit of pydantic's would also complain of a list whose items are wrong."""
    if not values:
        raise ValueError("the list is empty; give a choice at least")
    return values


NonEmpty = AfterValidator(_not_empty)
Sizes = Annotated[tuple[PositiveInt, ...], NonEmpty, AfterValidator(_ascending)]
Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], NonEmpty, AfterValidator(_ascending)]
Kernels = Annotated[Sizes, AfterValidator(_odd)]
Ratios = Annotated[
    tuple[Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)], ...],
    NonEmpty,
    AfterValidator(_ascending),
    AfterValidator(_finite),
]
BlockTypes = Annotated[tuple[BlockType, ...], NonEmpty, AfterValidator(_distinct)]
Odd = Annotated[PositiveInt, AfterValidator(lambda v: _odd((v,))[0])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class StemSpec(_Strict):
    """The first convolution of the network."""

    width: Sizes
    kernel: Odd = 3
    stride: Literal[1, 2] = 2


class AttentionSpec(_Strict):
    """Transformer blocks behind the convolution blocks of a stage.

    depth: how many (0 legal: the type of block is searched); head_dim: fixed, so a width w has w / head_dim heads;
    value_ratio: v has value_ratio * w channels; talking_heads: linear maps over the heads before and after softmax;
    mlps: how many MLPs stand in a block, each of mlp_ratio * w hidden channels.
    """

    depth: Counts
    head_dim: PositiveInt
    value_ratio: PositiveInt = 1
    mlp_ratio: Ratios = (2,)
    mlps: PositiveInt = 1
    talking_heads: bool = False


class StageSpec(_Strict):
    """Blocks at one resolution: `conv_depth` convolution blocks, the first with the stride, then attention blocks.

    block: type of the convolution blocks, smallest first; mbconv: expand, depthwise, maybe squeeze-and-excite,
    project; conv: one full convolution. expand and se concern mbconv alone. One value of each for a whole stage.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    width: Sizes
    conv_depth: Counts
    stride: Literal[1, 2] = 1
    block: BlockTypes = ("mbconv",)
    kernel: Kernels = (3,)
    expand: Ratios = (1,)
    se: bool = False
    attention: AttentionSpec | None = None

    @model_validator(mode="after")
    def _heads(self) -> Self:
        at = self.attention
        wrong = [w for w in self.width if at and w % at.head_dim]
        if at and wrong:
            raise ValueError(f"width {wrong} is no multiple of head_dim {at.head_dim}")
        return self

    @model_validator(mode="after")
    def _effect(self) -> Self:
        """A choice that no network shows is a mistake: it would widen the space on paper alone."""
        idle = []
        if "mbconv" not in self.block:
            idle += ["expand"] * (len(self.expand) > 1) + ["se"] * self.se
        if self.conv_depth == (0,):
            idle += [key for key in ("block", "kernel", "expand") if len(getattr(self, key)) > 1]
        if self.attention and self.attention.depth == (0,) and len(self.attention.mlp_ratio) > 1:
            idle.append("attention.mlp_ratio")
        if idle:
            raise ValueError(f"without effect here: {', '.join(dict.fromkeys(idle))}")
        return self


class HeadSpec(_Strict):
    """Pooling and classifier.

    expand null: 1x1 convolution to `width`, pool, classifier; a number: the head of MobileNetV3, 1x1 convolution to
    expand * last width, pool, linear to `width`, classifier.
    """

    width: Sizes
    expand: PositiveInt | None = None


class SpaceSpec(_Strict):
    """A whole search space.

    shortcut: what stands beside a convolution block that changes shape: "identity" = nothing (a shortcut only where
    the shapes agree), "project" = average pool for the stride and 1x1 convolution for the width.
    round_to: inner widths are rounded to multiples of it.
    """

    name: Annotated[str, Field(min_length=1)]
    resolution: Sizes
    channels_in: PositiveInt = 3
    act: Act = "relu"
    round_to: PositiveInt = 8
    shortcut: Literal["identity", "project"] = "identity"
    stem: StemSpec
    stages: Annotated[tuple[StageSpec, ...], NonEmpty]
    head: HeadSpec

    @model_validator(mode="after")
    def _fits(self) -> Self:
        faults = [*_name_faults(self), *_depth_faults(self), *_size_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _name_faults(spec: SpaceSpec) -> list[str]:
    names = [stage.name for stage in spec.stages]
    taken = {"stem", "head", "resolution"}
    return [f"two stages are called {n!r}" for n in sorted({n for n in names if names.count(n) > 1})] + [
        f"stage {n!r} has the name of another part" for n in sorted(taken & set(names))
    ]


def _depth_faults(spec: SpaceSpec) -> list[str]:
    """A stage without convolution block can change neither stride nor width."""
    faults, before = [], spec.stem.width
    for stage in spec.stages:
        changes = stage.stride != 1 or stage.width != before or len(before) > 1
        if 0 in stage.conv_depth and changes:
            faults.append(f"stage {stage.name!r}: conv_depth 0 needs stride 1 and the one width of the stage before")
        before = stage.width
    return faults


def _size_faults(spec: SpaceSpec) -> list[str]:
    stride = int(spec.stem.stride)
    for stage in spec.stages:
        stride *= stage.stride
    small = [r for r in spec.resolution if r < stride]
    return [f"resolution {small} is smaller than the strides of the network, {stride}"] if small else []


def divisible(value: float, by: int) -> int:
    """Nearest multiple of `by`, at least `by`, and no more than 10 % below `value`: the usual rule for channels."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded
