"""How a supernet is trained, as its YAML states it: pydantic models, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]
Group = Literal["conv", "attention", "shared"]
Values = tuple[int | float | str, ...]
Allowed = dict[str, Values]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Strict):
    """When training ends; exactly one key. macs: multiply-accumulates of all forward and backward passes together."""

    steps: PositiveInt | None = None
    minutes: Positive | None = None
    macs: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.steps, self.minutes, self.macs)) != 1:
            raise ValueError("a budget is one of steps, minutes, macs")
        return self


class Optimizer(_Strict):
    """lr: peak learning rate; warmup: part of a cycle with rising rate; final: rate at its end, as part of the peak.

    Weight decay spares norms, biases and layer scales. clip: largest norm of the whole gradient, null = none.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02
    momentum: Part = 0.9
    betas: tuple[Part, Part] = (0.9, 0.999)
    warmup: Part = 0.06
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip: Positive | None = 2.0


class Pick(_Strict):
    """One network of a step: the largest, the smallest or a random one of `allowed` (within what the phase allows)."""

    take: Literal["max", "min", "random"]
    allowed: Allowed = {}


def _short(value: Any) -> Any:
    return {"take": value} if isinstance(value, str) else value


PickOrName = Annotated[Pick, BeforeValidator(_short)]


class Sampling(_Strict):
    """The networks of each step. The default is the sandwich rule; `nets: [random]` is one uniform path.

    bands: complexity-aware sampling. 0 = off; n: random networks come from one of n bands of equal count by MACs, and
    the band moves by one at most from step to step.
    """

    nets: Annotated[tuple[PickOrName, ...], Field(min_length=1)] = (
        Pick(take="max"),
        Pick(take="min"),
        Pick(take="random"),
        Pick(take="random"),
    )
    bands: Annotated[int, Field(ge=0, le=64)] = 0


class Distillation(_Strict):
    """What the networks after the first of a step learn from.

    loss: `kl` or `alpha` (adaptive alpha-divergence) to the first network's outputs, or `none`: labels. label_weight:
    weight of the label loss beside it. alpha_low, alpha_high, ratio_clip: of the adaptive alpha-divergence.
    """

    loss: Literal["kl", "alpha", "none"] = "kl"
    label_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    alpha_low: Finite = -1.0
    alpha_high: Finite = 1.0
    ratio_clip: Positive = 5.0


class Regularisation(_Strict):
    """Of the first network of a step alone: subnets lack capacity rather than restraint.

    label_smoothing holds for the others too where they learn from labels alone (distillation `none`).
    """

    label_smoothing: Part = 0.1
    dropout: Part = 0.0
    drop_path: Part = 0.0


class GroupRate(_Strict):
    """Learning rate of one parameter group in a phase.

    factor: of the peak; cycle: the span of its warm-up and cosine: `run`, `phase`, or the name of a phase, for the span
    from that phase's begin to the end of the run. warmup: null = the optimiser's.
    """

    factor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    cycle: str = "run"
    warmup: Part | None = None


class Teacher(_Strict):
    """Distillation across phases: the previous phase's largest network, frozen, teaches this phase's first network."""

    weight: Share = 0.5


class Phase(_Strict):
    """A part of the run.

    share: of the budget, in its unit; allowed: gene pattern -> legal values; lr: by parameter group; freeze: groups
    that do not learn; layer_scale: value that all layer scales take when the phase begins; sampling: null = the run's.
    """

    name: Annotated[str, Field(min_length=1)]
    share: Share
    allowed: Allowed = {}
    lr: dict[Group, GroupRate] = {}
    freeze: tuple[Group, ...] = ()
    layer_scale: Positive | None = None
    sampling: Sampling | None = None
    teacher: Teacher | None = None


CONV_ONLY: Allowed = {"*.attention_depth": (0,)}
SINGLE = (Phase(name="all", share=1.0),)
TWO_PHASE = (
    Phase(name="conv", share=0.4, allowed=CONV_ONLY),
    Phase(name="hybrid", share=0.6, lr={"attention": GroupRate(cycle="phase")}),
)
NAMED_PHASES = {"single": SINGLE, "two-phase": TWO_PHASE}


def _named(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in NAMED_PHASES:
        raise ValueError(f"named phases: {', '.join(NAMED_PHASES)}")
    return NAMED_PHASES[value]


class TrainConfig(_Strict):
    """One training run. batch: images a step on all processes together.

    conflict: how the gradients of a step's networks are combined; ema: decay of the averaged weights, 0 = none;
    amp: `auto` = bfloat16 on a GPU that has it, full precision on a CPU (where bfloat16 is slower);
    save_every, log_every, evaluate_every: in steps, evaluate_every 0 = never; keep: how many checkpoints stay.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    batch: PositiveInt = 64
    budget: Budget = Budget(steps=500)
    phases: Annotated[tuple[Phase, ...], BeforeValidator(_named), Field(min_length=1)] = TWO_PHASE
    optimizer: Optimizer = Optimizer()
    sampling: Sampling = Sampling()
    distillation: Distillation = Distillation()
    regularisation: Regularisation = Regularisation()
    conflict: Literal["none", "projection", "pcgrad"] = "none"
    ema: Part = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["auto", "bf16", "off"] = "auto"
    channels_last: bool = True
    log_every: PositiveInt = 10
    save_every: PositiveInt = 100
    evaluate_every: NonNegativeInt = 0
    keep: PositiveInt = 2
    tensorboard: bool = False

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        names = [phase.name for phase in self.phases]
        faults = []
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            faults.append(f"the shares of the phases sum to {sum(p.share for p in self.phases):g}, not 1")
        if len(set(names)) != len(names) or {"run", "phase"} & set(names):
            faults.append(f"names of phases must differ, from `run` and `phase` too: {', '.join(names)}")
        if self.phases[0].teacher:
            faults.append("the first phase has no phase before it to learn from")
        for i, phase in enumerate(self.phases):
            known = {"run", "phase", *names[: i + 1]}
            faults += [
                f"phase {phase.name!r}: the cycle of {group!r} is {rate.cycle!r}, not one of {', '.join(sorted(known))}"
                for group, rate in phase.lr.items()
                if rate.cycle not in known
            ]
        faults += [
            f"phase {phase.name!r} freezes everything"
            for phase in self.phases
            if set(phase.freeze) == set(get_args(Group))
        ]
        if self.conflict != "none" and any(len((p.sampling or self.sampling).nets) < 2 for p in self.phases):
            faults.append(f"conflict {self.conflict!r} needs two networks a step at least")
        if faults:
            raise ValueError("; ".join(faults))
        return self
