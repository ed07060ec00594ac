"""What a study of training schedules compares, as its YAML states it: arms, data sets, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.training.config import Budget, TrainConfig
from nas.yaml_file import parse_model, read_text

TWO_PHASE = Path(__file__).with_name("two_phase.yaml")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Strict):
    """One way to train.

    budget: `macs` = the multiply-accumulates that the baseline spends with this seed, `steps` = its steps, or the name
    of an arm of budget `macs` = the steps that one takes. layer_scale: first value of the layer scales. train: keys of
    TrainConfig, over those of the study.
    """

    name: Name
    what: str
    budget: Literal["macs", "steps"] | Name = "macs"
    layer_scale: PositiveFloat = 0.1
    train: dict[str, Any] = {}


class Trial(_Strict):
    """One data set with the arms compared on it; null = all arms, the study's seeds, its steps of the baseline.

    name: null = the data's; tells apart trials on the same data, such as a longer one. The target is judged in trials
    with the study's seeds.
    """

    data: DataConfig
    name: Name | None = None
    arms: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    seeds: Seeds | None = None
    steps: PositiveInt | None = None

    @property
    def title(self) -> str:
        """What the trial is called in results."""
        return self.name or self.data.name


class Probes(_Strict):
    """Gradient cosines on the way: at so many checkpoints, evenly over the budget, of the first `seeds` seeds.

    trials: null = all.
    """

    arms: tuple[Name, ...] = ()
    trials: tuple[Name, ...] | None = None
    seeds: NonNegativeInt = 1
    checkpoints: PositiveInt = 5
    draws: PositiveInt = 4
    batch: PositiveInt = 128


class Mode(_Strict):
    """A shorter form of a study: what it sets differently."""

    steps: PositiveInt
    seeds: Seeds
    sets: Annotated[tuple[Trial, ...], Field(min_length=1)]
    probes: Probes = Probes()


class Target(_Strict):
    """What the arm `arm` should show against the baseline: more than `points` on random_any with a confidence interval
    above zero, and an attention gain no lower.
    """

    arm: Name
    points: float


class Study(_Strict):
    """arms: the first is the baseline. steps: of the baseline. train: keys of TrainConfig that all arms share."""

    name: Name
    space: str
    steps: PositiveInt
    seeds: Seeds
    arms: Annotated[tuple[Arm, ...], Field(min_length=2)]
    sets: Annotated[tuple[Trial, ...], Field(min_length=1)]
    target: Target
    train: dict[str, Any] = {}
    probes: Probes = Probes()
    modes: dict[Name, Mode] = {}

    def seeds_on(self, trial: Trial) -> tuple[int, ...]:
        """The seeds that a trial runs with."""
        return trial.seeds or self.seeds

    def probes_of(self, trial: Trial, arm: str, seed: int) -> Probes | None:
        """The probes of one run, if it has any."""
        own = self.probes
        wanted = arm in own.arms and (own.trials is None or trial.title in own.trials)
        return own if wanted and seed in self.seeds_on(trial)[: own.seeds] else None

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    def arm(self, name: str) -> Arm:
        """The arm called `name`."""
        return next(arm for arm in self.arms if arm.name == name)

    def arms_on(self, trial: Trial) -> tuple[Arm, ...]:
        """The arms compared on a data set, in the order of the study."""
        return tuple(arm for arm in self.arms if trial.arms is None or arm.name in trial.arms)

    def config(self, arm: Arm, seed: int, budget: Budget) -> TrainConfig:
        """The training run of an arm."""
        own = {"seed": seed, "budget": budget, "log_every": 1, "device": "cpu"}
        return TrainConfig.model_validate(self.train | arm.train | own)

    def mode(self, name: str) -> Study:
        """The study in one of its shorter forms. Raises UserError where it has none of this name."""
        if name not in self.modes:
            raise UserError(f"the study {self.name!r} has no mode {name!r}", why=f"modes: {', '.join(self.modes)}")
        mode = self.modes[name]
        return self.model_copy(update={key: getattr(mode, key) for key in Mode.model_fields} | {"modes": {}})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [arm.name for arm in self.arms]
        faults = [f"the arm {name!r} stands here twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if self.baseline.budget != "steps":
            faults.append(f"the baseline {self.baseline.name!r} must have the budget `steps`")
        by_macs = {arm.name for arm in self.arms if arm.budget == "macs"}
        faults += [
            f"the budget of {arm.name!r} must be macs, steps or an arm of budget macs, not {arm.budget!r}"
            for arm in self.arms
            if arm.budget not in by_macs | {"macs", "steps"}
        ]
        for sets, probes in [(self.sets, self.probes), *((mode.sets, mode.probes) for mode in self.modes.values())]:
            faults += self._faults_of(sets, probes)
        for arm in self.arms:
            try:
                self.config(arm, 0, Budget(steps=1))
            except ValueError as error:
                faults.append(f"the arm {arm.name!r} is no training configuration: {error}")
        if faults:
            raise ValueError("; ".join(dict.fromkeys(faults)))
        return self

    def _faults_of(self, sets: tuple[Trial, ...], probes: Probes) -> list[str]:
        titles, names = [trial.title for trial in sets], {arm.name for arm in self.arms}
        wanted = {*probes.arms, self.target.arm, *(name for trial in sets for name in trial.arms or ())}
        without = [trial.title for trial in sets if self.baseline not in self.arms_on(trial)]
        return [
            *(f"the trial {title!r} stands here twice" for title in sorted(set(titles)) if titles.count(title) > 1),
            *(f"there is no arm {name!r}" for name in sorted(wanted - names)),
            *(f"there is no trial {title!r} to probe" for title in sorted(set(probes.trials or ()) - set(titles))),
            *(f"the baseline is not compared in {title!r}" for title in without),
        ]


def load_study(path: Path = TWO_PHASE, sets: tuple[str, ...] = ()) -> Study:
    """The study a YAML file states; sets: changes to it, as KEY=VALUE. Raises UserError with every fault."""
    return parse_model(read_text(path), Study, str(path), sets)
