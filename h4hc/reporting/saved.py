"""load_report: an output folder -> its report, checked against the schema that ships."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from h4hc.errors import IntegrityError, Problem, UserError
from h4hc.manifest import read_manifest
from h4hc.reporting.schema_check import check, load_schema

REPORT_NAME = "report.json"
MAX_REPORT_BYTES = 256 * 1024 * 1024  # a report of 100,000 operators; anything larger was not written by h4hc
SHOWN_FAULTS = 5


def load_report(path: Path) -> dict[str, Any]:
    """Read `path`, an output folder or a report.json. In a folder, the report must be the one of its manifest.

    Raises: UserError when there is none; IntegrityError when it was changed or is no valid report of this version.
    """
    file = path / REPORT_NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"there is no {REPORT_NAME} here",
            where=(str(path),),
            hint="give the folder that `h4hc compile -o` wrote",
        )
    if file.stat().st_size > MAX_REPORT_BYTES:
        raise IntegrityError(
            "the report is too large", where=(str(file),), why=f"limit {MAX_REPORT_BYTES} bytes", hint="compile again"
        )
    try:
        data = file.read_bytes()
        if path.is_dir():
            _check_hash(path, data)
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else str(error)
        hint = "give the folder that `h4hc compile -o` wrote, or the report.json in it"
        raise IntegrityError("this is no report", (str(file),), f"not JSON: {why}", hint) from error
    except OSError as error:
        raise UserError("cannot read the report", where=(str(file),), why=str(error.strerror)) from error
    return checked(report, str(file))


def _check_hash(folder: Path, data: bytes) -> None:
    entry = next((f for f in read_manifest(folder).files if f.path == REPORT_NAME), None)
    if entry is None or entry.sha256 != hashlib.sha256(data).hexdigest():
        raise IntegrityError(
            f"{REPORT_NAME} was changed",
            (str(folder / REPORT_NAME),),
            "its SHA-256 is not the one in manifest.json",
            "compile the model again; `h4hc verify` lists every file that was changed",
        )


def checked(report: Any, where: str) -> dict[str, Any]:
    """The report itself when it is valid. Raises IntegrityError naming each fault."""
    schema = load_schema("report")
    version = report.get("schema_version") if isinstance(report, dict) else None
    wanted = schema["properties"]["schema_version"]["const"]
    if version != wanted:
        raise IntegrityError(
            "this report is of another version",
            where=(where,),
            why=f"schema_version is {version!r}, this h4hc reads {wanted}",
            hint="compile again with this h4hc",
        )
    faults = check(report, schema)
    if faults:
        raise IntegrityError.of(
            tuple(Problem("the report does not follow its schema", (where,), fault) for fault in faults[:SHOWN_FAULTS])
        )
    assert isinstance(report, dict)
    return report
