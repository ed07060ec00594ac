"""Cache, resumption, and the same rows however they are computed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.errors import LimitError, UserError
from h4hc.sweep import run as sweep_run
from h4hc.sweep.cache import TAG, TAG_TEXT, Cache
from h4hc.sweep.evaluate import Prepared, evaluate_prepared
from h4hc.sweep.row import Point, Row
from h4hc.sweep.run import run_points, run_tasks
from h4hc.sweep.tasks import Task, load_systems, make_tasks
from tests.sweep.conftest import MODELS
from tests.sweep.processes import outlives, start, wait_for

Counts = list[tuple[int, int, int]]


def counted(points: tuple[Point, ...], cache: Path, jobs: int = 1) -> tuple[tuple[Row, ...], Counts]:
    counts: Counts = []
    rows = run_points(points, cache=cache, jobs=jobs, on_row=lambda *c: counts.append(c))
    return rows, counts


# --- cache -------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(points: tuple[Point, ...], rows: tuple[Row, ...], tmp_path: Path) -> None:
    first, counts = counted(points[:3], tmp_path)
    again, none = counted(points[:3], tmp_path)
    assert counts == [(0, n, 3) for n in range(4)]
    assert none == [(3, 0, 0)]
    assert first == again == rows[:3]


def test_a_larger_grid_computes_what_is_new(points: tuple[Point, ...], rows: tuple[Row, ...], tmp_path: Path) -> None:
    counted(points[1:2], tmp_path)
    found, counts = counted(points[:3], tmp_path)
    assert counts[0] == (1, 0, 2)
    assert found == rows[:3]


def test_other_options_are_other_answers(points: tuple[Point, ...], tmp_path: Path) -> None:
    from h4hc.assignment import Objective

    point = points[0]
    counted((point,), tmp_path)
    others = (
        replace(point, objective=Objective.ENERGY),
        replace(point, forbids=("conv=cim",)),
        replace(point, gap=0.1),
        replace(point, robust=True),
        replace(point, precision="stored"),
        replace(point, sets=("cim.macros=1", "cim.cus=2")),
        replace(point, target="npu", sets=()),
        replace(point, model="resnet8"),
    )
    assert counted(others, tmp_path)[1][0] == (0, 0, len(others))


def test_a_system_spelled_in_another_way_is_the_same_answer(tmp_path: Path) -> None:
    plain = Point(model="ds-cnn", target="npu+cim")
    (first,), _ = counted((plain,), tmp_path)
    spelled = Point(model="ds-cnn", target="npu+cim", sets=("npu.memory_mode=Shared_Sram",))
    (second,), counts = counted((spelled,), tmp_path)
    assert counts == [(1, 0, 0)]
    assert second == replace(first, point=spelled)


def test_points_of_one_address_are_computed_once(tmp_path: Path) -> None:
    plain = Point(model="ds-cnn", target="npu+cim")
    spelled = Point(model="ds-cnn", target="npu+cim", sets=("npu.memory_mode=Shared_Sram",))
    rows, counts = counted((plain, spelled), tmp_path)
    assert counts[0] == (0, 0, 1)
    assert [row.point for row in rows] == [plain, spelled]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"point": 1}'])
def test_a_damaged_entry_is_computed_again(points: tuple[Point, ...], tmp_path: Path, damage: bytes) -> None:
    first, _ = counted(points[:1], tmp_path)
    (entry,) = tmp_path.glob("*.row")
    entry.write_bytes(damage)
    again, counts = counted(points[:1], tmp_path)
    assert counts[0] == (0, 0, 1)
    assert first == again


def test_an_edited_answer_is_computed_again(points: tuple[Point, ...], tmp_path: Path) -> None:
    (first,), _ = counted(points[:1], tmp_path)
    (entry,) = tmp_path.glob("*.row")
    whole = entry.read_bytes()
    nominal = f'"nominal": {first.latency_ps.nominal},'.encode()
    assert nominal in whole
    entry.write_bytes(whole.replace(nominal, b'"nominal": 1,', 1))
    (again,), counts = counted(points[:1], tmp_path)
    assert (again, counts[0]) == (first, (0, 0, 1))
    assert entry.read_bytes() == whole


def test_an_answer_under_the_name_of_another_is_not_believed(points: tuple[Point, ...], tmp_path: Path) -> None:
    loose = replace(points[0], gap=0.1)  # the same model and system: only the key tells them apart
    counted(points[:1], tmp_path)
    (entry,) = tmp_path.glob("*.row")
    task = make_tasks((loose,), load_systems((loose,)))[0]
    (tmp_path / f"{task.key}.row").write_bytes(entry.read_bytes())
    assert counted((loose,), tmp_path)[1][0] == (0, 0, 1)


def test_an_edited_model_is_prepared_again(points: tuple[Point, ...], tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        first = cache.prepare(points[0])
        (entry,) = tmp_path.glob("*.model")
        whole = entry.read_bytes()
        entry.write_bytes(whole.replace(first.model_sha256.encode(), b"0" * 64))
        assert cache.prepare(points[0]) == first
    assert entry.read_bytes() == whole


def test_the_code_is_part_of_the_address(
    points: tuple[Point, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(points[:1], tmp_path)
    monkeypatch.setattr("h4hc.sweep.tasks.program_sha256", lambda: "another")
    assert counted(points[:1], tmp_path)[1][0] == (0, 0, 1)


def test_a_point_for_which_time_ran_out_is_tried_again(
    points: tuple[Point, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(tasks: tuple[Task, ...]) -> Iterator[tuple[int, Row]]:
        for index, task in enumerate(tasks):
            yield index, Row(task.point, "", "", (0, 0, 0), None, code=LimitError.code, reason="too late")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_run, "run_serial", late)
        (row,), _ = counted(points[:1], tmp_path)
    assert row.reason == "too late"
    (row,), counts = counted(points[:1], tmp_path)
    assert counts[0] == (0, 0, 1)
    assert row.feasible


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    with Cache(tmp_path), pytest.raises(UserError, match="another sweep is writing"), Cache(tmp_path):
        pass
    with Cache(tmp_path):
        pass


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (f"{'0' * 64}.row.tmp", f"{'0' * 64}.model.tmp", f"{TAG}.tmp", "theirs.tmp"):
        (tmp_path / name).write_bytes(b"half")
    with Cache(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [TAG, "theirs.tmp"]


def test_a_cache_of_another_program_is_left_alone(tmp_path: Path) -> None:
    theirs = TAG_TEXT.splitlines(keepends=True)[0] + b"# made by another program\n"
    (tmp_path / TAG).write_bytes(theirs)
    with pytest.raises(UserError, match="cache of another program"), Cache(tmp_path):
        pass
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {TAG: theirs}


# --- the same rows in any way -------------------------------------------------------------------------------


def test_processes_give_the_rows_of_one(points: tuple[Point, ...], rows: tuple[Row, ...]) -> None:
    assert run_points(points, jobs=2) == rows
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_ray_gives_the_rows_of_one(
    points: tuple[Point, ...], rows: tuple[Row, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with Cache(tmp_path) as cache:
        tasks = make_tasks(points, load_systems(points))
        assert run_tasks(tasks, cache, jobs=2, ray=True) == rows
    assert not ray.is_initialized()
    assert counted(points, tmp_path)[1] == [(len(points), 0, 0)]


def test_an_error_of_a_point_names_it_and_keeps_the_others(
    points: tuple[Point, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from h4hc.errors import PlanError
    from h4hc.sweep import workers

    def broken(point: Point, prepared: Prepared) -> Row:
        if point == points[1]:
            raise PlanError("the plan breaks a rule", ("node",))
        return real(point, prepared)

    real = evaluate_prepared
    monkeypatch.setattr(workers, "evaluate_prepared", broken)
    with pytest.raises(PlanError) as caught:
        counted(points[:3], tmp_path)
    assert caught.value.problems[0].where == ("ds-cnn", "npu+cim", "cim.macros=1", "cim.cus=1", "node")
    monkeypatch.undo()
    assert counted(points[:3], tmp_path)[1][0] == (1, 0, 2)


# --- interrupted --------------------------------------------------------------------------------------------


def start_sweep(out: Path, *more: str) -> subprocess.Popen[str]:
    """`h4hc sweep` on a grid that is long enough to be interrupted."""
    over = ("--over", "cim.macros=1,2,3,4", "--over", "cim.cus=1,2,4,8", "--no-plots")
    return start("sweep", *MODELS, "--target", "npu+cim", *over, "-o", str(out), *more)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path: Path, jobs: str) -> None:
    out = tmp_path / "out"
    process = start_sweep(out, "--jobs", jobs)
    kept = wait_for(out / "cache", 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "sweep.csv").exists()
    again = start_sweep(out, "--jobs", jobs)
    _, log = again.communicate(timeout=600)
    assert again.returncode == 0, log
    assert {name: (out / "cache" / name).stat().st_ino for name in kept} == kept
    whole = start_sweep(tmp_path / "whole", "--jobs", "1")
    assert whole.communicate(timeout=600)
    for name in ("sweep.csv", "sweep.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len((out / "sweep.csv").read_text().splitlines()) == 1 + 32


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("send", "number"),
    [
        (os.killpg, signal.SIGINT),  # as a terminal does: to the whole group
        (os.kill, signal.SIGTERM),  # as a supervisor does: to the one process it knows
    ],
)
def test_an_interrupted_sweep_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, jobs: str, send: Callable[[int, int], None], number: int
) -> None:
    out = tmp_path / "out"
    process = start_sweep(out, "--jobs", jobs, "--json")
    wait_for(out / "cache", 2, process)
    send(process.pid, number)
    text, log = process.communicate(timeout=600)
    assert process.returncode == 130
    assert json.loads(text)["error"]["exit_code"] == 130
    done = len(list((out / "cache").glob("*.row")))
    assert f"{done} of 32 points are done and kept; the same command goes on from there" in log
    assert "Traceback" not in log
    assert not (out / "sweep.json").exists()
    assert not outlives(process.pid)


@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    process = start_sweep(tmp_path / "out", "--jobs", "2")
    wait_for(tmp_path / "out" / "cache", 2, process)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: it can end nobody
    process.wait()
    try:
        assert not outlives(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
