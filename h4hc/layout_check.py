"""check_layout(): `passes`, `targets` and `nas` must be the packages that came with h4hc.

They are top-level packages with common names, so a file of the user's that is called `targets.py` could
stand before them on the path. Found by looking, without importing what was found.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from h4hc.errors import InternalError, Problem, UserError

PACKAGES = ("passes", "targets", "nas")
OWNER_LINE = 'OWNER = "h4hc"'


def check_layout(packages: tuple[str, ...] = PACKAGES) -> None:
    """Raise UserError when another package takes the place of one of ours, InternalError when one is missing."""
    intruders: list[Problem] = []
    missing: list[Problem] = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            where = tuple(spec.submodule_search_locations or ()) if spec is not None else ()
            if where:
                intruders.append(_intruder(name, where[0]))
            else:
                missing.append(Problem(f"the package {name!r} of h4hc is missing", hint="install h4hc again"))
        elif not _is_ours(Path(spec.origin)):
            intruders.append(_intruder(name, spec.origin))
    if intruders:
        raise UserError.of(tuple(intruders))
    if missing:
        raise InternalError.of(tuple(missing))


def _is_ours(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return path.name == "__init__.py" and OWNER_LINE in text.splitlines()


def _intruder(name: str, path: str) -> Problem:
    return Problem(
        f"another package called {name!r} stands before the one of h4hc",
        where=(path,),
        why="Python takes the first it finds on sys.path",
        hint="run h4hc from another folder, rename that file, or take its folder off PYTHONPATH",
    )
