"""What the co-design study compares, as its YAML states it: a trained run, two systems to search for, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from h4hc.errors import UserError
from nas.config import RunConfig, Seed, load_config
from nas.search.problem import ACCURACY
from nas.yaml_file import parse_model, read_text

CO_DESIGN = Path(__file__).with_name("co_design.yaml")
NEEDED = {ACCURACY, "latency_ps", "energy_pj"}  # objectives: what the fronts are compared by
Name = Annotated[str, Field(pattern=r"^[^|`<>\r\n]+$")]  # stands in tables of Markdown
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class System(_Strict):
    """A target of h4hc, with numbers of it set otherwise, as `h4hc compile --target --set` take them."""

    name: Name
    target: str
    sets: tuple[str, ...] = ()


class Mode(_Strict):
    """A shorter form: fewer seeds and systems, and changes that come after the study's own."""

    seeds: Seeds
    sets: tuple[str, ...] = ()
    systems: tuple[System, ...] = ()


class CoDesign(_Strict):
    """config, sets: a configuration of `h4hc nas train` with changes: the run that is trained once, then searched.

    seeds: of the searches. deployed: the system that networks run on, and that one arm searches for; alone: what the
    other arm searches for. systems: of the comparison over the whole space. levels: of accuracy, at which latency
    and energy are compared.
    """

    name: Name
    config: str
    sets: tuple[str, ...] = ()
    seeds: Seeds
    deployed: System
    alone: System
    systems: tuple[System, ...] = ()
    levels: PositiveInt = 20
    modes: dict[str, Mode] = {}

    @property
    def run(self) -> RunConfig:
        """The configuration of the run. Raises UserError."""
        return load_config(self.config, self.sets)

    def mode(self, name: str) -> CoDesign:
        """The study in one of its shorter forms. Raises UserError where it has none of this name."""
        if name not in self.modes:
            raise UserError(f"the study {self.name!r} has no mode {name!r}", why=f"modes: {', '.join(self.modes)}")
        mode = self.modes[name]
        keys = {text.partition("=")[0] for text in mode.sets}
        sets = (*(text for text in self.sets if text.partition("=")[0] not in keys), *mode.sets)
        return self.model_copy(update={"seeds": mode.seeds, "sets": sets, "systems": mode.systems, "modes": {}})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands there twice")
        search = self.run.search
        if set(search.objectives) != NEEDED:
            raise ValueError(f"the search must have the objectives {', '.join(sorted(NEEDED))}, each once")
        return self


def load_co_design(path: Path = CO_DESIGN, sets: tuple[str, ...] = ()) -> CoDesign:
    """The study a YAML file states; sets: changes to it, as KEY=VALUE. Raises UserError with every fault."""
    return parse_model(read_text(path), CoDesign, str(path), sets)
