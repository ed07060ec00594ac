"""A search space: genes, genomes (whole numbers), architectures, one-hot rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h4hc.errors import Problem, UserError
from nas.space.arch import Arch, StageArch
from nas.space.spec import SpaceSpec, StageSpec
from nas.yaml_file import read_model

PRESETS = Path(__file__).resolve().parents[1] / "presets"
Value = int | float | str
Allowed = Mapping[str, Sequence[Value]]  # pattern of gene names -> legal values: {"*.attention_depth": [0]}
Genomes = npt.NDArray[np.int64]  # [networks, genes]: the index of the value of each gene


@dataclass(frozen=True)
class Gene:
    """One choice: its name (`s2.kernel`) and its values, smallest first."""

    name: str
    values: tuple[Value, ...]


class SearchSpace:
    """All architectures that a SpaceSpec allows.

    fields: name -> values of every choice; genes: those with two values or more, in the order of a genome. A genome
    is *canonical* where genes without effect (mlp_ratio at attention depth 0) are 0; two canonical genomes that
    differ are two architectures that differ.
    """

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec
        self.fields: dict[str, tuple[Value, ...]] = _fields(spec)
        self.genes: tuple[Gene, ...] = tuple(Gene(n, v) for n, v in self.fields.items() if len(v) > 1)
        self.position: dict[str, int] = {gene.name: i for i, gene in enumerate(self.genes)}

    @classmethod
    def load(cls, preset_or_path: str | Path) -> SearchSpace:
        """A preset by name, or a YAML file by path. Raises UserError with every fault of the file."""
        path = Path(preset_or_path)
        if path.suffix in {".yaml", ".yml"} or path.exists():
            return cls(read_model(path, SpaceSpec))
        if str(preset_or_path) not in presets():
            raise UserError(
                f"there is no search space {str(preset_or_path)!r}",
                why=f"presets: {', '.join(presets())}",
                hint="name a preset or the path of a .yaml file",
            )
        return cls(read_model(PRESETS / f"{preset_or_path}.yaml", SpaceSpec))

    @cached_property
    def cardinalities(self) -> npt.NDArray[np.int64]:
        """How many values each gene has [genes]."""
        return np.array([len(gene.values) for gene in self.genes], np.int64)

    def size(self) -> int:
        """How many different architectures there are (canonical genomes)."""
        count = math.prod(len(self.fields[name]) for name in ("resolution", "stem.width", "head.width"))
        return count * math.prod(_stage_size(stage) for stage in self.spec.stages)

    # genome <-> Arch

    def arch(self, genome: Sequence[int] | Genomes) -> Arch:
        """The architecture of one genome, canonical or not. Raises UserError where it lies outside the space."""
        row = self.canonical(np.asarray([genome]))[0]
        value = {name: values[0] for name, values in self.fields.items()}
        value |= {gene.name: gene.values[i] for gene, i in zip(self.genes, row.tolist(), strict=True)}
        stages = tuple(
            StageArch(
                block=str(value[f"{s.name}.block"]),
                width=int(value[f"{s.name}.width"]),
                conv_depth=int(value[f"{s.name}.conv_depth"]),
                kernel=int(value[f"{s.name}.kernel"]),
                expand=_number(value[f"{s.name}.expand"]),
                attention_depth=int(value.get(f"{s.name}.attention_depth", 0)),
                mlp_ratio=_number(value.get(f"{s.name}.mlp_ratio", 1)),
            )
            for s in self.spec.stages
        )
        return Arch(int(value["resolution"]), int(value["stem.width"]), stages, int(value["head.width"]))

    def genome(self, arch: Arch) -> tuple[int, ...]:
        """The canonical genome of `arch`. Raises UserError, with every fault, where it is not of this space."""
        wanted = self._values(arch)
        problems = [
            Problem(f"{name} {value!r} is not in the space {self.spec.name!r}", why=f"values: {self.fields[name]}")
            for name, value in wanted.items()
            if value not in self.fields[name]
        ]
        if problems:
            raise UserError.of(tuple(problems))
        row = [gene.values.index(wanted[gene.name]) for gene in self.genes]
        return tuple(self.canonical(np.asarray([row]))[0].tolist())

    def _values(self, arch: Arch) -> dict[str, Value]:
        if len(arch.stages) != len(self.spec.stages):
            raise UserError(
                f"the architecture has {len(arch.stages)} stages, the space {self.spec.name!r} {len(self.spec.stages)}"
            )
        found: dict[str, Value] = {"resolution": arch.resolution, "stem.width": arch.stem, "head.width": arch.head}
        for spec, stage in zip(self.spec.stages, arch.stages, strict=True):
            found |= {f"{spec.name}.{key}": getattr(stage, key) for key in _CONV_FIELDS}
            if spec.attention:
                found |= {f"{spec.name}.{key}": getattr(stage, key) for key in _ATTENTION_FIELDS}
            elif stage.attention_depth:
                raise UserError(f"stage {spec.name!r} of the space {self.spec.name!r} has no attention blocks")
        return found

    def canonical(self, genomes: Genomes) -> Genomes:
        """Genomes [N, genes] with the genes without effect at 0; a copy. Raises UserError for indices out of range."""
        rows = np.array(genomes, np.int64)
        if rows.ndim != 2 or rows.shape[1] != len(self.genes) or (rows < 0).any() or (rows >= self.cardinalities).any():
            raise UserError(
                f"genomes of the space {self.spec.name!r} are {len(self.genes)} indices within the gene's values",
                why=f"the shape is {rows.shape}",
            )
        for stage in self.spec.stages:
            no_conv = self._column(rows, f"{stage.name}.conv_depth") == 0
            not_mbconv = self._column(rows, f"{stage.name}.block") != "mbconv"
            self._clear(rows, f"{stage.name}.block", no_conv)
            self._clear(rows, f"{stage.name}.kernel", no_conv)
            self._clear(rows, f"{stage.name}.expand", no_conv | not_mbconv)
            if stage.attention:
                self._clear(rows, f"{stage.name}.mlp_ratio", self._column(rows, f"{stage.name}.attention_depth") == 0)
        return rows

    def _column(self, rows: Genomes, name: str) -> npt.NDArray[np.generic]:
        """The values [N] that the genomes give the field `name`."""
        values = np.array(self.fields[name])
        index = rows[:, self.position[name]] if name in self.position else np.zeros(len(rows), np.int64)
        column: npt.NDArray[np.generic] = values[index]
        return column

    def _clear(self, rows: Genomes, name: str, where: npt.NDArray[np.bool_]) -> None:
        if name in self.position:
            rows[where, self.position[name]] = 0

    # one-hot

    def one_hot(self, genomes: Genomes) -> npt.NDArray[np.float64]:
        """Rows of 0 and 1 [N, sum of cardinalities]: a column for each value of each gene, in order."""
        rows = np.asarray(genomes, np.int64)
        starts = np.concatenate([[0], np.cumsum(self.cardinalities)])
        found = np.zeros((len(rows), int(starts[-1])))
        found[np.arange(len(rows))[:, None], starts[:-1] + rows] = 1.0
        return found

    def from_one_hot(self, rows: npt.NDArray[np.float64]) -> Genomes:
        """Inverse of one_hot."""
        parts = np.split(np.asarray(rows), np.cumsum(self.cardinalities)[:-1], axis=1)
        return np.stack([part.argmax(1) for part in parts], 1).astype(np.int64)

    # sampling

    def sample(self, rng: np.random.Generator, n: int, allowed: Allowed | None = None) -> Genomes:
        """n canonical genomes [n, genes], each gene uniform over its allowed values."""
        choices = self.choices(allowed)
        columns = [np.asarray(legal)[rng.integers(len(legal), size=n)] for legal in choices]
        return self.canonical(np.stack(columns, 1) if columns else np.zeros((n, 0), np.int64))

    def maximum(self, allowed: Allowed | None = None) -> tuple[int, ...]:
        """The genome with the last allowed value of each gene."""
        return self._corner(allowed, -1)

    def minimum(self, allowed: Allowed | None = None) -> tuple[int, ...]:
        """The genome with the first allowed value of each gene."""
        return self._corner(allowed, 0)

    def _corner(self, allowed: Allowed | None, end: int) -> tuple[int, ...]:
        row = [legal[end] for legal in self.choices(allowed)]
        return tuple(self.canonical(np.asarray([row], np.int64).reshape(1, -1))[0].tolist())

    def choices(self, allowed: Allowed | None) -> tuple[tuple[int, ...], ...]:
        """The legal indices of each gene, rising. Raises UserError, with every fault, for restrictions that do not fit.

        Several patterns may speak of one gene; then all must agree.
        """
        legal = {name: set(values) for name, values in self.fields.items()}
        problems: list[Problem] = []
        for pattern, values in (allowed or {}).items():
            names = [name for name in self.fields if fnmatchcase(name, pattern)]
            if not names:
                problems.append(Problem(f"no gene is called {pattern!r}", why=f"genes: {', '.join(self.fields)}"))
            known = {value for name in names for value in self.fields[name]}
            for value in values:
                if names and value not in known:
                    problems.append(
                        Problem(f"{pattern!r} has no value {value!r}", why=f"values: {sorted(known, key=str)}")
                    )
            for name in names:
                legal[name] &= set(values)
        problems += [Problem(f"no value is left for {name!r}", why=f"allowed: {dict(allowed or {})}")
                     for name, left in legal.items() if not left]  # fmt: skip
        if problems:
            raise UserError.of(tuple(problems))
        return tuple(tuple(i for i, v in enumerate(gene.values) if v in legal[gene.name]) for gene in self.genes)


def presets() -> tuple[str, ...]:
    """Names of the shipped spaces."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


_CONV_FIELDS = ("block", "width", "conv_depth", "kernel", "expand")
_ATTENTION_FIELDS = ("attention_depth", "mlp_ratio")


def _fields(spec: SpaceSpec) -> dict[str, tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {"resolution": spec.resolution, "stem.width": spec.stem.width}
    for stage in spec.stages:
        found |= {f"{stage.name}.{key}": getattr(stage, key) for key in _CONV_FIELDS}
        if stage.attention:
            found[f"{stage.name}.attention_depth"] = stage.attention.depth
            found[f"{stage.name}.mlp_ratio"] = stage.attention.mlp_ratio
    return found | {"head.width": spec.head.width}


def _stage_size(stage: StageSpec) -> int:
    """Architectures of a stage: the genes that do something, summed over block types and depths."""
    conv = 0
    for depth in stage.conv_depth:
        for block in stage.block if depth else stage.block[:1]:
            conv += (len(stage.kernel) if depth else 1) * (len(stage.expand) if depth and block == "mbconv" else 1)
    at = stage.attention
    attention = sum(len(at.mlp_ratio) if depth else 1 for depth in at.depth) if at else 1
    return len(stage.width) * conv * attention


def _number(value: Value) -> float:
    assert not isinstance(value, str)
    return value
