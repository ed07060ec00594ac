"""Fit a device's cost model to a reference: the vendor's tool on single layers, or a table of measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from h4hc import __version__
from h4hc.calibration import FORMAT, METHOD, Calibration, CalibrationRow, Pair, Source, fit, fit_problems
from h4hc.cost import device_rejection
from h4hc.costtypes import DeviceModel, Mode
from h4hc.errors import UserError
from h4hc.files import read_file
from h4hc.layer_table import LayerRow
from h4hc.npu_cost import CHECK_UNITS, VENDOR, agreeing, applying, facts, timed, vendor_costs
from h4hc.system import System


@dataclass(frozen=True)
class Refusal:
    """A layer that was not fitted, and why."""

    layer: str
    kind: str
    why: str


@dataclass(frozen=True)
class Wish:
    """What to fit. reference: vela or a CSV. layers: for the vendor's tool, those of the device's configuration count;
    None draws `samples` of each kind. layers_name: where they are from."""

    reference: str
    layers: tuple[LayerRow, ...] | None
    samples: int
    seed: int
    layers_name: str = "--layers"


@dataclass(frozen=True)
class _Reference:
    row: LayerRow
    latency_ps: float | None  # None: the vendor's tool refuses the layer, `why`
    energy_pj: float | None
    why: str = ""


def calibrate(system: System, device: DeviceModel, wish: Wish) -> tuple[Calibration, tuple[Refusal, ...]]:
    """Fit the model of `device`. Returns the calibration and the layers left out of it.

    Raises UserError for a table that is wrong or says nothing of this device, MissingToolError without the tool.
    """
    drawn = wish.reference == VENDOR and wish.layers is None
    source: Source = "vendor" if wish.reference == VENDOR else "measured"
    if source == "vendor":
        name, references = _vendor(device, wish)
    else:
        name, references = _table(device, Path(wish.reference))
    rows: list[CalibrationRow] = []
    refused: list[Refusal] = []
    for one in references:
        found = _row(device, one)
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            rows.append(found)
    if not rows:
        why = "; ".join(dict.fromkeys(r.why for r in refused))
        raise UserError("no layer is left to fit", (wish.reference,), why, "give layers that the device runs")
    energies = [Pair(r.kind, r.model_pj, r.reference_pj) for r in rows if r.reference_pj and r.model_pj]
    calibration = Calibration(
        format=FORMAT,
        h4hc=__version__,
        source=source,
        reference=name,
        method=METHOD,
        target=system.name,
        target_sha256=system.sha256,
        device=device.name,
        facts=facts(device),
        seed=wish.seed if drawn else None,
        samples=wish.samples if drawn else None,
        latency=fit(Pair(r.kind, r.model_ps, r.reference_ps) for r in rows if r.model_ps),
        energy=fit(energies),
        rows=tuple(rows),
    )
    problems = fit_problems(calibration.latency, "latency", wish.reference, CHECK_UNITS)
    problems += fit_problems(calibration.energy, "energy", wish.reference, CHECK_UNITS)
    if problems:
        raise UserError.of(tuple(problems))
    return calibration, tuple(refused)


def _vendor(device: DeviceModel, wish: Wish) -> tuple[str, Iterator[_Reference]]:
    from h4hc.layer_sample import sample_layers

    answers = vendor_costs(device)
    layers: Sequence[LayerRow]
    if wish.layers is None:
        layers = sample_layers(wish.samples, wish.seed)
    else:
        layers = agreeing(wish.layers, device, wish.layers_name)

    def ask() -> Iterator[_Reference]:
        for row in layers:
            op, workload = row.workload.ops[0], row.workload
            seen = [v for rule in answers.rules() for v in [rule.check(op, workload)] if v]
            if device_rejection(op, device, workload) or seen:
                yield _Reference(row, None, None, seen[0].value if seen else "")
            else:
                yield _Reference(row, answers.cost(op, _mode(device), workload).latency.nominal, None)

    return answers.name, ask()


def _table(device: DeviceModel, path: Path) -> tuple[str, Iterator[_Reference]]:
    from h4hc.measured import parse_measured

    data = read_file(path, "table of measurements")
    rows = timed(applying(parse_measured(data, path.name), device, path.name), device, path.name)
    name = f"{path.name} {hashlib.sha256(data).hexdigest()}"
    return name, (_Reference(r.measured.row, r.latency_ps, r.measured.energy_pj, r.refused) for r in rows)


def _mode(device: DeviceModel) -> Mode:
    return device.modes()[0]


def _row(device: DeviceModel, one: _Reference) -> CalibrationRow | Refusal:
    op, workload = one.row.workload.ops[0], one.row.workload
    rejected = device_rejection(op, device, workload)
    if rejected is not None:
        return Refusal(one.row.layer, one.row.kind, f"{rejected.rule} ({rejected.value}) [{rejected.code}]")
    if one.latency_ps is None:
        return Refusal(one.row.layer, one.row.kind, one.why)
    cost = device.cost(op, _mode(device), workload)
    return CalibrationRow(
        one.row.cells,
        op.kind,
        cost.latency.nominal,
        max(1, round(one.latency_ps)),
        cost.energy.nominal,
        None if one.energy_pj is None else round(one.energy_pj),
    )
