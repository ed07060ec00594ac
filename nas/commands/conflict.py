"""`h4hc nas conflict`: gradient conflicts between block types in a trained supernet, beside controls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from h4hc.errors import UserError
from nas.runs import open_run
from nas.space.space import SearchSpace
from nas.training.conflict import attention_full, probe


def conflict(folder: Path, batch: int, draws: int) -> dict[str, Any]:
    """Cosines at the newest checkpoint of the run in `folder`.

    Raises what open_run and Run.trained raise; UserError for a space in which block types do not differ.
    """
    run = open_run(folder)
    _check(run.config.of_space)
    data = run.data()
    if batch > len(data.train):
        hint = f"{len(data.train)} at most"
        raise UserError(f"the run has no {batch} training images for a batch", ("--batch",), hint=hint)
    found = probe(run.trained(data.classes), data.train, batch, draws, run.config.seed)
    return {"run": str(folder), "batch": batch, "pairs": [asdict(pair) for pair in found]}


def _check(space: SearchSpace) -> None:
    depths = attention_full(space)
    fixed = [name for name in depths if 0 not in space.fields[name]]
    if not depths or fixed:
        why = f"no network without attention: {', '.join(fixed)} cannot be 0" if fixed else "it has no attention blocks"
        raise UserError(f"the space {space.spec.name!r} has no two types of network to compare", why=why)
