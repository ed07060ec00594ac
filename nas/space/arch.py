"""One network of a search space: frozen, hashable, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from h4hc.errors import UserError


@dataclass(frozen=True)
class StageArch:
    """The choices of one stage; those that do nothing (mlp_ratio at attention depth 0) hold the space's first value."""

    block: str
    width: int
    conv_depth: int
    kernel: int
    expand: float
    attention_depth: int
    mlp_ratio: float


@dataclass(frozen=True)
class Arch:
    """resolution: input pixels a side; stem: width of the first convolution; head: width in front of the classifier."""

    resolution: int
    stem: int
    stages: tuple[StageArch, ...]
    head: int

    def to_json(self) -> dict[str, Any]:
        """As plain data for json.dumps."""
        return asdict(self) | {"stages": [asdict(stage) for stage in self.stages]}

    @classmethod
    def from_json(cls, data: Any) -> Arch:
        """Inverse of to_json; data may also be JSON text. Raises UserError: wrong keys or types."""
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except ValueError as error:
                raise UserError("the architecture is no JSON", why=str(error)) from error
        _check(data, cls, "the architecture")
        if not isinstance(data["stages"], list):
            raise UserError("`stages` of the architecture is no list")
        for i, stage in enumerate(data["stages"]):
            _check(stage, StageArch, f"stage {i} of the architecture")
        return cls(**data | {"stages": tuple(StageArch(**stage) for stage in data["stages"])})


def _check(data: Any, kind: type, what: str) -> None:
    wanted = {field.name: field.type for field in fields(kind)}
    if not isinstance(data, dict) or set(data) != set(wanted):
        has = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise UserError(f"{what} must have the keys {', '.join(wanted)}", why=f"it has {has}")
    kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str}
    wrong = [
        key
        for key, value in data.items()
        if wanted[key] in kinds and (isinstance(value, bool) or not isinstance(value, kinds[str(wanted[key])]))
    ]
    if wrong:
        raise UserError(f"{what}: not of the right type: {', '.join(wrong)}")
