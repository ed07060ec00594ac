"""Warns when a plan uses a device whose outputs are not bit-exact: verification computes exactly and cannot see it."""

from __future__ import annotations

from h4hc.assignment import Assignment
from h4hc.diagnostics import Diagnostic
from h4hc.system import System
from h4hc.text import plural

INEXACT = "H4W121"
SHOWN_OPS = 20


def inexact_remarks(assignment: Assignment, system: System) -> tuple[Diagnostic, ...]:
    """A warning for each device of the plan whose outputs are not bit-exact."""
    found = []
    for device in system.devices:
        why = device.inexact()
        ops = tuple(p.op for p in assignment.placements if p.mode.device == device.name)
        if why is not None and ops:
            what = f"{plural(len(ops), 'operator')} on {device.name}: {why}"
            hint = "the partitioned ONNX computes exactly: measure the accuracy with the device's own error model"
            found.append(Diagnostic(INEXACT, "warning", what, ops[:SHOWN_OPS], hint))
    return tuple(found)
