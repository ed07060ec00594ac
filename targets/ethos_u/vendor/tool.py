"""The vendor's tool as an optional extra: is it there, in the version this package was written for?"""

from __future__ import annotations

import functools
from typing import Any

from h4hc.errors import MissingToolError

EXTRA = "ethosu"
PACKAGE = "ethos-u-vela"
VERSION = "5.2.0"  # regor's Python interface is not documented: another version may answer otherwise
INSTALL = f'pip install "h4hc[{EXTRA}]"'


def schema_missing(error: ImportError) -> MissingToolError:
    """The error for a part of the tool that cannot be imported."""
    return MissingToolError(
        f"the vendor's compiler ({PACKAGE} {VERSION}) is not installed", (error.name or PACKAGE,), str(error), INSTALL
    )


@functools.cache
def regor() -> Any:
    """The module of the vendor's compiler. Raises MissingToolError (exit 10) without it, or in another version."""
    from importlib import metadata

    try:
        import ethosu.regor as module

        found = metadata.version(PACKAGE)
    except ImportError as error:  # PackageNotFoundError is one
        raise schema_missing(error) from None
    if found != VERSION:
        raise MissingToolError(
            f"{PACKAGE} {found} is installed, {VERSION} is needed",
            (PACKAGE,),
            "its figures are part of the result, and another version gives others",
            INSTALL,
        )
    return module
