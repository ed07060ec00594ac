"""The configuration of a run: one YAML with a section for each part, made of the parts' own models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.search.evolve import EvolveConfig
from nas.search.predictor import LEAST
from nas.search.rounds import RoundsConfig
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from nas.training.config import TrainConfig
from nas.yaml_file import parse_model, read_text

RECIPES = Path(__file__).resolve().parent / "recipes"
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Chance = Annotated[float, Field(ge=0, le=1)]
SEEDED = ("data", "training", "search")  # sections that take the seed of the run where they state none


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _spec(value: Any) -> Any:
    """A space by preset name or path, or the space itself."""
    return SearchSpace.load(value).spec if isinstance(value, str) else value


class Calibration(_Strict):
    """Batch norm statistics of a subnet: from so many batches of training images."""

    batches: PositiveInt = 2
    batch: PositiveInt = 128


class Hardware(_Strict):
    """What networks are planned for: a target of h4hc, numbers of it set otherwise, and what plans minimise."""

    target: str = "npu+cim"
    sets: tuple[str, ...] = ()
    objective: Literal["latency", "energy"] = "latency"


class Search(_Strict):
    """The second stage: `first` networks are measured, then in each of `rounds` `per_round` of the predicted front.

    images: of the validation split, null = all. objectives, limits: metrics (accuracy, latency_ps, energy_pj,
    cim_bytes, sram_bytes, weight_bytes); a limit is the most that a metric may be, of accuracy the least. allowed:
    gene pattern -> legal values. population ... mutation: of the NSGA-II that runs on predictions.
    """

    seed: Seed = 0
    images: PositiveInt | None = 1000
    objectives: tuple[str, ...] = ("accuracy", "latency_ps", "energy_pj")
    limits: dict[str, float] = {}
    allowed: dict[str, tuple[int | float | str, ...]] = {}
    first: Annotated[int, Field(ge=LEAST)] = 60
    rounds: PositiveInt = 3
    per_round: PositiveInt = 20
    population: Annotated[int, Field(ge=4)] = 100
    generations: PositiveInt = 100
    crossover: Chance = 0.9
    mutation: Annotated[float, Field(gt=0, le=1)] = 0.1

    @property
    def of_rounds(self) -> RoundsConfig:
        """As the search itself takes it."""
        evolve = EvolveConfig(self.population, self.generations, self.crossover, self.mutation, self.seed)
        return RoundsConfig(self.first, self.rounds, self.per_round, evolve)


class Segmentation(_Strict):
    """A segmentation head on an exported network, trained with it on generated masks; sizes as for data.

    ground_weight: of the pixels of class 0 in the loss; they are 93 % of all, and at 1 they drown the shapes.
    """

    steps: PositiveInt = 300
    batch: PositiveInt = 64
    lr: Annotated[float, Field(gt=0)] = 5e-3
    ground_weight: Annotated[float, Field(gt=0)] = 0.3
    width: PositiveInt = 32
    train: PositiveInt = 4000
    val: PositiveInt = 500


class Export(_Strict):
    """top: networks of the front that are exported when none is named; targets: what each is compiled for."""

    top: PositiveInt = 3
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("npu", "cim", "npu+cim")
    segmentation: Segmentation = Segmentation()


class RunConfig(_Strict):
    """Everything that decides what a run finds.

    seed: of each part that states none. threads: of torch on a CPU; null = as many as torch takes, which may change
    the last bits. space: name of a preset, path of a YAML file, or the space itself. averaged: search and export the
    averaged weights (needs training.ema).
    """

    seed: Seed = 0
    threads: PositiveInt | None = None
    space: Annotated[SpaceSpec, BeforeValidator(_spec)]
    data: DataConfig
    training: TrainConfig = TrainConfig()
    calibration: Calibration = Calibration()
    hardware: Hardware = Hardware()
    search: Search = Search()
    export: Export = Export()
    averaged: bool = False

    @model_validator(mode="before")
    @classmethod
    def _seeds(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "seed" not in tree:
            return tree
        try:
            TypeAdapter(Seed).validate_python(tree["seed"])
        except ValidationError:  # told once, for the run; not for each section too
            return tree
        seeded = {key: tree.get(key, {}) for key in SEEDED}
        return tree | {k: {"seed": tree["seed"]} | v for k, v in seeded.items() if isinstance(v, dict)}

    @model_validator(mode="after")
    def _fits(self) -> RunConfig:
        if self.averaged and not self.training.ema:
            raise ValueError("averaged weights need training.ema, for example 0.999")
        return self

    @property
    def of_space(self) -> SearchSpace:
        """The search space."""
        return SearchSpace(self.space)

    def to_yaml(self) -> str:
        """Every key with its value; read_config gives the same configuration back."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_unset=False), sort_keys=False, width=120)


def recipes() -> tuple[str, ...]:
    """Names of the shipped configurations."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def load_config(name_or_path: str | Path, sets: tuple[str, ...] = ()) -> RunConfig:
    """A shipped configuration by name, or a YAML file by path; sets: `training.budget={steps: 100}`, see edited.

    Raises UserError with every fault: keys that do not exist, wrong values, each with its line.
    """
    path = Path(name_or_path)
    if not (path.suffix in {".yaml", ".yml"} or path.exists()):
        if str(name_or_path) not in recipes():
            what, known = f"there is no configuration {str(name_or_path)!r}", ", ".join(recipes())
            raise UserError(what, why=f"shipped: {known}", hint="name one of them, or the path of a .yaml file")
        path = RECIPES / f"{name_or_path}.yaml"
    return parse_model(read_text(path), RunConfig, str(path), sets)
