"""table: the rows of the document as CSV: one line a trial, nominal values beside their bounds."""

from __future__ import annotations

from typing import Any

from h4hc.text import csv_text

KEYS = ("model", "residency", "objective", "ablation", "macros", "cus")
COSTS = (("latency_ps", "latency", "ps"), ("energy_pj", "energy", "pj"), ("overhead_ps", "overhead", "ps"))


def csv_bytes(tree: dict[str, Any]) -> bytes:
    """One record a row of the document; empty cells where there is no plan or no bound was sought."""
    records = [_record(row) for row in tree["rows"]]
    head = list(dict.fromkeys(key for record in records for key in record))
    return csv_text(head, ([record.get(key) for key in head] for record in records)).encode()


def _record(row: dict[str, Any]) -> dict[str, Any]:
    record = {key: row[key] for key in KEYS} | {"status": row["status"] or "no plan"}
    for name, plan in (("", row["plan"]), ("npu_only_", row["npu_only"]), ("npu_host_", row["npu_host"])):
        if plan is not None:
            record |= _costs(name, plan)
    record |= {"border_ps": row["border"]["latency_ps"], "border_pj": row["border"]["energy_pj"]}
    if row["plan"] is not None:
        record |= {"switches": row["plan"]["switches"]}
        record |= {f"ops_{item['device']}": item["count"] for item in row["plan"]["ops"]}
    for measure, savings in row["saved"].items():
        for against, saving in savings.items():
            record |= _saving(f"{measure}_saved_vs_{against}", saving)
    record |= {f"area_{bound}_mm2": row["area_mm2"][bound] for bound in ("low", "nominal", "high")}
    return record | {key: row[key] for key in ("reason", "model_sha256", "system_sha256")}


def _costs(name: str, plan: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}{stem}{bound}_{unit}": plan[key][value]
        for key, stem, unit in COSTS
        for bound, value in (("", "nominal"), ("_low", "low"), ("_high", "high"))
    }


def _saving(name: str, saving: dict[str, Any]) -> dict[str, Any]:
    record = {f"{name}_pct": saving["nominal_pct"], f"{name}_inside_pct": saving["inside_pct"]}
    for kind in ("blind", "correlated"):
        bounds = saving[kind] or {"low_pct": None, "high_pct": None}
        record |= {f"{name}_{kind}_low_pct": bounds["low_pct"], f"{name}_{kind}_high_pct": bounds["high_pct"]}
    return record
