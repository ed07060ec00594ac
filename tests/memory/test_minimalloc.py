"""MiniMalloc's CSV: its own example, what is refused, and the commands with their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from h4hc.errors import ExitCode, UserError
from h4hc.memory.minimalloc import check_packing, read_csv, write_csv
from h4hc.memory.problem import Item
from tests.cli_call import Cli
from tests.memory.families import MIB, cut_rectangle

EXAMPLE = b"id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n"  # of its README, capacity 12
SOLUTION = b"id,lower,upper,size,offset\nb1,0,3,4,8\nb2,3,9,4,8\nb3,0,9,4,4\nb4,9,21,4,4\nb5,0,21,4,0\n"


def test_reads_and_writes_its_example() -> None:
    table = read_csv(EXAMPLE, "here")
    assert (table.items[1], table.offsets) == (Item("b2", 3, 9, 4), None)
    assert write_csv(table.items, None) == EXAMPLE
    solved = read_csv(SOLUTION, "here")
    assert solved.offsets == (8, 8, 4, 4, 0)
    assert write_csv(solved.items, solved.offsets) == SOLUTION
    assert check_packing(solved.items, solved.offsets, 12) == []


def test_columns_in_any_order_and_under_their_other_names() -> None:
    data = b"size,buffer_id,end,start,alignment,hint,gaps\n4,a,2,0,8,0,\n\n6,b,9,3,1,5,\n"
    assert read_csv(data, "here").items == (Item("a", 0, 3, 4, 8), Item("b", 3, 10, 6))
    made = write_csv(read_csv(data, "here").items, (0, 8))
    assert made == b"id,lower,upper,size,alignment,offset\na,0,3,4,8,0\nb,3,10,6,1,8\n"


def test_names_become_plain_and_stay_apart() -> None:
    made = write_csv([Item("a,b", 0, 1, 1), Item("a b", 0, 1, 1), Item('=x"', 0, 1, 1), Item("", 0, 1, 1)], None)
    assert [line.split(b",")[0] for line in made.splitlines()[1:]] == [b"a_b", b"a_b_2", b"x_", b"_"]
    assert len(read_csv(made, "here").items) == 4


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ["empty"]),
        (b"\xff", ["no CSV"]),
        (b"id,lower,size\n", ["'upper' and 'end'"]),
        (b"id,lower,upper,end,size,size,colour\n", ["'upper' and 'end'", "'size' twice", "'colour'"]),
        (b"id,lower,upper,size\na,0,1\nb,2,2,1\nc,0,1,-1\nd,0,x,1\n,0,1,1\n", [":2", ":3", ":4", ":5", ":6"]),
        (b"id,lower,upper,size\na,0,1,1\na,0,1,1\n", ["'a' is there twice"]),
        (b"id,lower,upper,size,gaps\na,0,9,1,2-3\n", ["gaps '2-3' are not supported"]),
        (b"id,lower,upper,size,alignment\na,0,9,1,0\n", ["alignment 0"]),
        (b"id,lower,upper,size\na,0,9,99999999999999999999\n", ["not a whole number"]),
    ],
)
def test_every_fault_is_told(data: bytes, said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_csv(data, "here")
    assert all(words in str(caught.value) for words in said), str(caught.value)


def test_a_solution_is_checked() -> None:
    items = [Item("a", 0, 2, 8, 4), Item("b", 1, 3, 8, 4), Item("c", 2, 4, 8), Item("empty", 0, 9, 0)]
    assert check_packing(items, (0, 8, 0, 3), 16) == []
    assert {p.what for p in check_packing(items, (0, 4, 0, 3), 16)} == {"overlap"}
    assert {p.what for p in check_packing(items, (0, 9, 0, 3), 32)} == {"misaligned"}
    assert {p.what for p in check_packing(items, (0, 8, 0, 3), 15)} == {"out of region"}
    assert {p.what for p in check_packing(items, (-4, 8, 0, 3), None)} == {"out of region"}


def test_pack_and_check(cli: Cli, tmp_path: Path) -> None:
    problem, solution = tmp_path / "p.csv", tmp_path / "s.csv"
    problem.write_bytes(EXAMPLE)
    done = cli("memory", "pack", problem, "--capacity", "12", "-o", solution, "--json")
    assert done.code == 0
    assert (done.json["high_water_bytes"], done.json["status"]) == (12, "proved optimal")
    checked = cli("memory", "check", solution, "--capacity", "12")
    assert (checked.code, checked.out) == (0, "5 buffers, no fault; high-water mark 12 bytes\n")
    assert "proved optimal" in cli("memory", "pack", problem).out
    assert cli("memory", "pack", problem, "-o", solution).code == ExitCode.USAGE  # it exists
    assert cli("memory", "check", problem).code == ExitCode.USAGE  # no offsets
    assert cli("memory", "check", solution, "--capacity", "11").code == ExitCode.INTEGRITY
    assert cli("memory", "pack", problem, "--capacity", "lots").code == ExitCode.USAGE
    assert cli("memory", "pack", tmp_path / "none.csv").code == ExitCode.USAGE


def test_what_does_not_fit_is_told_from_what_was_not_found(cli: Cli, tmp_path: Path) -> None:
    problem, solution = tmp_path / "p.csv", tmp_path / "s.csv"
    problem.write_bytes(EXAMPLE)
    small = cli("memory", "pack", problem, "--capacity", "11", "-o", solution)
    assert small.code == ExitCode.INFEASIBLE
    assert "lower bound 12 bytes, capacity 11: 1 are missing" in small.err
    problem.write_bytes(write_csv(cut_rectangle(0, 60), None))
    given_up = cli("memory", "pack", problem, "--capacity", "1M", "--nodes", "1", "-o", solution)
    assert given_up.code == ExitCode.LIMIT
    assert f"lower bound {MIB} bytes" in given_up.err
    assert not solution.exists()
    assert cli("memory", "pack", problem, "--capacity", "1M", "-o", solution).code == 0
    assert cli("memory", "check", solution, "--capacity", "1M").code == 0


def test_export_of_a_compiled_folder(cli: Cli, tmp_path: Path) -> None:
    model, out, box = tmp_path / "m.onnx", tmp_path / "out", tmp_path / "box"
    assert cli("zoo", "resnet8", "-o", model).code == 0
    assert cli("compile", model, "--target", "npu+cim", "-o", out).code == 0
    assert cli("compile", model, "--target", "npu+cim", "--stop-after", "memory", "-o", box).code == 0
    assert (out / "memory.json").read_bytes() == (box / "memory.json").read_bytes()
    problem, solution = tmp_path / "p.csv", tmp_path / "s.csv"
    assert cli("memory", "export", out, "-o", problem).code == 0
    assert cli("memory", "export", box / "memory.json", "-o", solution, "--solution").code == 0
    row = json.loads((out / "report.json").read_bytes())["memory"][0]
    again = cli("memory", "pack", problem, "--json").json
    assert again["high_water_bytes"] == row["high_water_bytes"] == row["lower_bound_bytes"]
    assert cli("memory", "check", solution, "--capacity", str(row["high_water_bytes"])).code == 0
    assert cli("memory", "export", out).code == ExitCode.USAGE
    assert cli("memory", "export", tmp_path, "-o", tmp_path / "q.csv").code == ExitCode.USAGE
    (out / "memory.json").write_bytes(b"{}")
    assert cli("memory", "export", out, "-o", tmp_path / "q.csv").code == ExitCode.INTEGRITY
    assert cli("memory", "export", out / "memory.json", "-o", tmp_path / "q.csv").code == ExitCode.INTEGRITY
