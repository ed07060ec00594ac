"""The front by the plans of the compiler: still a front, within the limits, in the memory there is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nas
from h4hc.errors import InfeasibleError
from nas.search import sealed
from nas.search.front import Front, front_of, non_dominated
from nas.search.problem import SearchProblem
from nas.search.recost import Plan, recost, recosted
from tests.nas.search.conftest import Ints


@pytest.fixture
def front(problem: SearchProblem, every: Ints) -> Front:
    """Of the whole space."""
    found = front_of(problem, every, problem.metrics(every))
    assert len(found) > 5
    return found


def _plans(front: Front) -> list[Plan]:
    """As the tables have it."""
    columns = [front.metrics[name].astype(int) for name in ("latency_ps", "energy_pj", "sram_bytes")]
    return [
        Plan(latency, energy, f"plan {i}", sram, True)
        for i, (latency, energy, sram) in enumerate(zip(*columns, strict=True))
    ]


def test_networks_that_are_dominated_as_compiled_are_left_out(front: Front) -> None:
    plans = _plans(front)
    best = int(front.metrics["accuracy"].argmax())
    assert best > 1
    plans[1] = replace(plans[1], latency_ps=plans[best].latency_ps, energy_pj=plans[best].energy_pj)
    kept, mine = recosted(front, plans)
    assert non_dominated(kept.values).all()
    assert [plan.status for plan in mine] == [plan.status for i, plan in enumerate(plans) if i != 1]
    assert kept.genomes.tolist() == np.delete(front.genomes, 1, axis=0).tolist()


def test_networks_that_break_a_limit_as_compiled_are_left_out(front: Front) -> None:
    """Of time and energy of the objective's plan one may rise; the SRAM's layout may have gaps."""
    limits = {name: float(front.metrics[name].max()) for name in ("energy_pj", "sram_bytes")}
    limited, plans = replace(front, problem=replace(front.problem, limits=limits)), _plans(front)
    plans[0] = replace(plans[0], energy_pj=int(limits["energy_pj"]) + 1)
    plans[2] = replace(plans[2], sram_bytes=int(limits["sram_bytes"]) + 1)
    kept, mine = recosted(limited, plans)
    assert [plan.status for plan in mine] == [f"plan {i}" for i in range(len(plans)) if i not in {0, 2}]
    assert (kept.metrics["sram_bytes"] <= limits["sram_bytes"]).all()
    over = [replace(plan, energy_pj=10**15) for plan in plans]
    with pytest.raises(InfeasibleError, match="energy_pj <="):
        recosted(limited, over)


def test_a_plan_says_whether_the_sram_holds_it(problem: SearchProblem, every: Ints) -> None:
    table = problem.table
    (plan,) = recost(table, every[-1:])
    assert plan.fits
    small = replace(table, sets=(f"sram.size_bytes={plan.sram_bytes - 16}",))
    assert not recost(small, every[-1:])[0].fits


@pytest.mark.parametrize("name", ["search/predictor.py", "search/hardware.py", "search/evolve.py", "supernet/macs.py"])
def test_a_search_of_other_code_is_another_search(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides which networks are found is in the hash that a folder of a search belongs to."""
    before = sealed.search_sha256()
    copy = Path(shutil.copytree(Path(nas.__file__).parent, tmp_path / "nas"))
    monkeypatch.setattr("nas.search.sealed.resources.files", lambda package: copy)
    sealed.source_sha256.cache_clear()
    assert sealed.search_sha256.__wrapped__() == before
    (copy / name).write_text((copy / name).read_text() + "\n")
    sealed.source_sha256.cache_clear()
    assert sealed.search_sha256.__wrapped__() != before
    sealed.source_sha256.cache_clear()
