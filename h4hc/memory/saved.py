"""load_plan: an output folder, or a memory.json -> MemoryPlan."""

from __future__ import annotations

from pathlib import Path

from h4hc.errors import IntegrityError, UserError
from h4hc.files import read_file
from h4hc.memory.plan import MemoryPlan

PLAN_NAME = "memory.json"


def load_plan(path: Path) -> MemoryPlan:
    """The plan that `h4hc compile` wrote. Raises UserError when there is none, IntegrityError when it is no plan or,
    in a folder, not the one of the folder's manifest."""
    from pydantic import ValidationError

    file = path / PLAN_NAME if path.is_dir() else path
    if not file.is_file():
        hint = "give a folder that `h4hc compile -o` wrote, or `h4hc compile --stop-after memory`"
        raise UserError(f"there is no {PLAN_NAME} here", (str(path),), hint=hint)
    data = read_file(file, "memory plan")
    if path.is_dir():
        import hashlib

        from h4hc.manifest import read_manifest

        entry = next((f for f in read_manifest(path).files if f.path == PLAN_NAME), None)
        if entry is None or entry.sha256 != hashlib.sha256(data).hexdigest():
            why, hint = "its SHA-256 is not the one in manifest.json", "compile the model again"
            raise IntegrityError(f"{PLAN_NAME} was changed", (str(file),), why, hint)
    try:
        plan = MemoryPlan.from_json(data)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise IntegrityError("this is no memory plan", (str(file),), what, "compile the model again") from error
    empty = [b.name for r in plan.regions for b in r.buffers if b.start_step >= b.end_step or b.size_bytes < 0]
    if not plan.regions or empty or any(region.align_bytes < 1 for region in plan.regions):
        raise IntegrityError("this is no memory plan", (str(file), *empty), "empty lives, sizes or regions")
    return plan
