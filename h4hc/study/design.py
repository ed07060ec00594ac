"""design: which models, systems and options the study asks about -> points of a sweep, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from h4hc.assignment import Objective
from h4hc.sweep.row import Point
from h4hc.workload import OpKind, Workload

CIM = "cim"
MODELS = ("hybrid-xxs", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny")
QUICK_MODELS = ("ds-cnn",)


@dataclass(frozen=True)
class Residency:
    """Where the NPU's weights lie. target: the system with the CIM; baseline: the same without it."""

    name: str
    title: str
    target: str
    baseline: str
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """One thing taken away. sets: on top of the system's; only: the kinds of work that the CIM may still do."""

    name: str
    title: str
    sets: tuple[str, ...] = ()
    only: OpKind | None = None


def _own(name: str) -> str:
    return str(resources.files("h4hc.study") / name)


RESIDENCIES = (
    Residency("sram", "SRAM", "npu+cim", "npu", ("npu.memory_mode=Sram_Only",)),
    Residency("flash", "flash", "npu+cim", "npu", ("npu.memory_mode=Shared_Sram",)),
    Residency("mram", "MRAM", _own("npu+cim-mram.toml"), _own("npu-mram.toml"), ("npu.memory_mode=Shared_Sram",)),
)

FULL = Ablation("full", "nothing taken away")
ABLATIONS = (
    Ablation("one-cu", "without multi-CU: one CU a macro", ("cim.cus=1",)),
    Ablation("no-dedup", "without dedup: every window crosses the bus whole", ("cim.dedup=false",)),
    Ablation("vanilla", "vanilla macros: one CU, no dedup", ("cim.cus=1", "cim.dedup=false")),
    Ablation(
        "no-residency", "without residency: weights are written for each inference", ("cim.residency=per_inference",)
    ),
    Ablation("depthwise-only", "CIM for depthwise convolution only", only=OpKind.DEPTHWISE),
    Ablation("fc-only", "CIM for fully connected only", only=OpKind.FULLY_CONNECTED),
)


@dataclass(frozen=True)
class Setting:
    """What a saving is a saving of: one model, one home of the weights, one objective."""

    model: str
    residency: Residency
    objective: Objective


@dataclass(frozen=True)
class Trial:
    """A point with its place in the study. macros = cus = 0: the system without a CIM."""

    setting: Setting
    macros: int
    cus: int
    ablation: Ablation
    point: Point

    @property
    def is_baseline(self) -> bool:
        """Whether there is no CIM in it."""
        return self.macros == 0


@dataclass(frozen=True)
class Design:
    """The whole study. headline: (macros, cus) of the ablations and of the correlated bounds."""

    models: tuple[str, ...] = tuple(name for model in MODELS for name in (model, f"{model}-int8"))
    residencies: tuple[Residency, ...] = RESIDENCIES
    objectives: tuple[Objective, ...] = tuple(Objective)
    macros: tuple[int, ...] = (1, 2, 4, 8)
    cus: tuple[int, ...] = (1, 2, 4)
    headline: tuple[int, int] = (4, 4)
    ablations: tuple[Ablation, ...] = ABLATIONS

    def settings(self) -> tuple[Setting, ...]:
        """Models outermost, objectives innermost."""
        return tuple(
            Setting(model, residency, objective)
            for model in self.models
            for residency in self.residencies
            for objective in self.objectives
        )


def quick(models: Sequence[str]) -> Design:
    """The corners of the grid, weights in flash, for the models given or a small one: to see that it works."""
    both = (Objective.LATENCY, Objective.ENERGY)
    return Design(tuple(models) or QUICK_MODELS, RESIDENCIES[1:2], both, macros=(1, 4), cus=(1, 4))


def trials(design: Design, workload: Callable[[str], Workload]) -> tuple[Trial, ...]:
    """Every point: of each setting the baseline, the grid, then the ablations at the headline system.

    workload: the operators of a model, whose kinds the ablations must name.
    """
    found: list[Trial] = []
    for setting in design.settings():
        found.append(Trial(setting, 0, 0, FULL, _point(setting, setting.residency.baseline, ())))
        for macros in design.macros:
            for cus in design.cus:
                found.append(_trial(setting, macros, cus, FULL, ()))
        for ablation in design.ablations:
            forbids = () if ablation.only is None else forbids_but(ablation.only, workload(setting.model))
            found.append(_trial(setting, *design.headline, ablation, forbids))
    return tuple(found)


def cim_sets(residency: Residency, macros: int, cus: int, ablation: Ablation = FULL) -> tuple[str, ...]:
    """The `--set` options of a system with a CIM; an ablation's own come in the place of those they change."""
    sets = dict(text.split("=", 1) for text in (*residency.sets, f"cim.macros={macros}", f"cim.cus={cus}"))
    sets |= dict(text.split("=", 1) for text in ablation.sets)
    return tuple(f"{key}={value}" for key, value in sets.items())


def forbids_but(only: OpKind, workload: Workload) -> tuple[str, ...]:
    """Forbid all kinds of work on the CIM but `only`. Views stay free: they move nothing and save a switch."""
    kinds = sorted({op.kind for op in workload.ops} - {only, OpKind.VIEW})
    return tuple(f"{kind}={CIM}" for kind in kinds)


def _trial(setting: Setting, macros: int, cus: int, ablation: Ablation, forbids: tuple[str, ...]) -> Trial:
    sets = cim_sets(setting.residency, macros, cus, ablation)
    return Trial(setting, macros, cus, ablation, _point(setting, setting.residency.target, sets, forbids))


def _point(setting: Setting, target: str, sets: tuple[str, ...], forbids: tuple[str, ...] = ()) -> Point:
    sets = sets or setting.residency.sets
    return Point(  # each of three residencies is asked for every model, whether or not a chip has so much SRAM
        model=setting.model, target=target, sets=sets, objective=setting.objective, forbids=forbids, fit_sram=False
    )
