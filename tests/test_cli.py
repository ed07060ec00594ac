"""The command line: exit codes, what goes to which stream, JSON purity, suggestions. Mostly through `run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import h4hc
from h4hc import errors
from h4hc.cli import COMMANDS, run
from h4hc.errors import ExitCode, H4hcError, Problem, UserError
from h4hc.layout_check import check_layout
from h4hc.report_views import render_markdown, render_terminal
from h4hc.reporting.saved import load_report
from tests.cli_call import Cli, Result

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "pulp", "highspy", "pydantic", "rich", "networkx", "torch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx (a zoo model) and out/ (compiled from it)."""
    root = tmp_path_factory.mktemp("cli")
    assert run(["zoo", "ds-cnn", "-o", str(root / "model.onnx"), "-q"]) == 0
    arguments = ["compile", str(root / "model.onnx"), "--target", "npu+cim", "-o", str(root / "out"), "-q"]
    assert run(arguments) == 0
    return root


def python(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False, **more
    )


# --- start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"], ["explain", "--help"]])
def test_start_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from h4hc.cli import run; run({arguments!r}); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


def test_help_names_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    assert result.err == ""
    for name in COMMANDS:
        assert f"\n  {name} " in result.out
        assert cli(name, "--help").code == 0


def test_commands_match_their_files() -> None:
    folder = Path(h4hc.__file__).parent / "commands"
    shared = {"__init__", "costed", "flags", "model_options"}
    files = {p.stem for p in folder.glob("*.py")} - shared
    own = {f for f in files if f.partition("_")[0] in COMMANDS and f not in COMMANDS}  # targets_cost: `targets cost`
    assert files - own == set(COMMANDS)


def test_version(cli: Cli) -> None:
    assert cli("--version") == Result(0, f"h4hc {h4hc.__version__}\n", "")
    assert cli("--version", "--json").json == {"name": "h4hc", "version": h4hc.__version__}
    assert python("-m", "h4hc", "--version").stdout == f"h4hc {h4hc.__version__}\n"


def test_intruder_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "targets.py").write_text("print('loaded')\n")
    done = python("-m", "h4hc", "--version", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert str(tmp_path / "targets.py") in done.stderr
    assert "loaded" not in done.stdout
    assert "Traceback" not in done.stderr


def test_missing_package_is_an_internal_error() -> None:
    check_layout()
    with pytest.raises(errors.InternalError, match="no_such_package"):
        check_layout(("passes", "no_such_package"))


# --- exit codes -----------------------------------------------------------------------------------------------


def all_errors(base: type[H4hcError]) -> list[type[H4hcError]]:
    return [base, *(c for sub in base.__subclasses__() if sub.__module__ == "h4hc.errors" for c in all_errors(sub))]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `h4hc targets list` raise what is given."""

    def plant(error: BaseException) -> None:
        def list_targets() -> None:
            raise error

        monkeypatch.setattr("h4hc.target_file.list_targets", list_targets)

    return plant


@pytest.mark.parametrize("kind", all_errors(H4hcError))
def test_every_error_class_has_its_exit_code(
    cli: Cli, failing: Callable[[BaseException], None], kind: type[H4hcError]
) -> None:
    failing(kind.of((Problem("first thing", ("/a/Conv", "/b"), "3 > 2", "use 2"), Problem("second\x1b[31m thing"))))
    result = cli("targets", "list")
    assert result.code == kind.exit_code
    assert result.out == ""
    for part in (f"error[{kind.code}]: first thing", "'/a/Conv', '/b'", "3 > 2", "use 2", "second\\x1b[31m thing"):
        assert part in result.err
    assert "Traceback" not in result.err
    as_json = cli("targets", "list", "--json")
    assert as_json.code == kind.exit_code
    assert as_json.err == ""
    error = as_json.json["error"]
    assert (error["code"], error["exit_code"]) == (kind.code, kind.exit_code)
    assert [p["what"] for p in error["problems"]] == ["first thing", "second\x1b[31m thing"]
    assert error["problems"][0] == {
        "what": "first thing", "where": ["/a/Conv", "/b"], "why": "3 > 2", "hint": "use 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (MemoryError(), ExitCode.LIMIT),
        (ZeroDivisionError("1 / 0"), ExitCode.INTERNAL),
        (RecursionError("too deep"), ExitCode.INTERNAL),
        (PermissionError(13, "Permission denied", "x.toml"), ExitCode.USAGE),
        (OSError(28, "No space left on device"), ExitCode.LIMIT),
    ],
)
def test_other_exceptions(
    cli: Cli, failing: Callable[[BaseException], None], error: BaseException, code: ExitCode
) -> None:
    failing(error)
    result = cli("targets", "list")
    assert result.code == code
    assert result.out == ""
    assert "error[H4E" in result.err
    assert "Traceback" not in result.err
    assert cli("targets", "list", "--json").json["error"]["exit_code"] == code


def test_bug_shows_its_traceback_when_asked(
    cli: Cli, failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ZeroDivisionError("1 / 0"))
    assert "report" in cli("targets", "list").err
    assert "Traceback" in cli("targets", "list", "-v").err
    monkeypatch.setenv("H4HC_DEBUG", "1")
    result = cli("targets", "list", "--json")
    assert "Traceback" in result.err
    assert result.json["error"]["code"] == "H4E100"


def test_codes_of_real_failures(cli: Cli, made: Path, tmp_path: Path) -> None:
    model, out = made / "model.onnx", tmp_path / "out"
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x0a\xff not a model")
    base = ("--target", "npu+cim", "-o", out)
    assert cli("compile", garbage, *base).code == ExitCode.MODEL
    assert cli("compile", tmp_path, *base).code in (ExitCode.USAGE, ExitCode.MODEL)
    assert cli("compile", model, "--target", "no-such", "-o", out).code == ExitCode.TARGET
    infeasible = cli("compile", model, *base, "--pin", "*=cim")
    assert infeasible.code == ExitCode.INFEASIBLE
    assert "Softmax" in infeasible.err
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["garbage.onnx"]


# --- usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["comple"], ["'compile'", "h4hc --help"]),
        (["compile", "m.onnx", "--taget", "npu"], ["--target"]),
        (["targets", "shw", "npu"], ["show"]),
        (["zoo", "resnet-8", "-o", "x"], ["'resnet8'"]),
        (["zoo", "resnet8"], ["-o FILE is missing"]),
        (["zoo", "resnet8", "-o", "x", "--seed", "-1"], ["--seed"]),
        (["verify", "nowhere"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere", "report.json"]),
        (["report", ".", "--format", "pdf"], ["terminal"]),
        (["explain", "."], ["NODE"]),
        (["passes", "nowhere.onnx", "-o", "x"], ["nowhere.onnx"]),
    ],
)
def test_wrong_use_is_exit_2_with_a_hint(cli: Cli, arguments: list[str], parts: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == ExitCode.USAGE
    assert result.out == ""
    for part in parts:
        assert part in result.err
    assert cli(*arguments, "--json").json["error"]["exit_code"] == ExitCode.USAGE


def test_no_command_shows_the_help(cli: Cli) -> None:
    assert cli().code == ExitCode.USAGE
    assert cli("--json").json["error"]["code"] == UserError.code


def test_all_option_mistakes_at_once(cli: Cli) -> None:
    result = cli(
        "compile", "missing.onnx", "--set", "cim.macros", "--pin", "=npu", "--forbid", "Conv", "--input-shape", "x",
        "--fix-dim", "batch=", "--gap", "nan", "--time-limit", "-3", "--limit", "nodes=many", "--passes", "no-such",
    )  # fmt: skip
    assert result.code == ExitCode.USAGE
    for part in ("-o OUT", "missing.onnx", "--target is missing", "npu+cim", "'cim.macros'", "'=npu'", "'Conv'", "'x'",
                 "'batch='", "--gap", "--time-limit", "'many'", "'no-such'"):  # fmt: skip
        assert part in result.err, part


def test_a_value_set_twice_is_told_by_every_command(cli: Cli) -> None:
    sets = ["--set", "cim.macros=8", "--set", "cim.macros=4"]
    for words in (["targets", "show", "npu+cim"], ["compile", "m.onnx", "--target", "npu+cim"]):
        assert "--set cim.macros is given 2 times" in cli(*words, *sets).err


def test_input_names_with_colons_and_equals_pass_the_first_check(cli: Cli) -> None:
    result = cli("compile", "missing.onnx", "--input-shape", "a=b:0=1,3", "--target", "npu", "--dry-run", "--json")
    assert [p["what"] for p in result.json["error"]["problems"]] == ["there is no such model file"]


# --- compile and what reads its folder ---------------------------------------------------------------------------


def test_compile_prints_the_report_it_wrote(cli: Cli, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("compile", made / "model.onnx", "--target", "npu+cim", "-o", out)
    assert result.code == 0
    report = load_report(out)
    assert result.out == render_terminal(report, 100) == cli("report", out).out
    assert f"wrote {out}" in result.err
    assert "warning[H4W110]" in result.err
    assert (out / "report.md").read_text() == render_markdown(report) == cli("report", out, "--format", "markdown").out
    assert cli("report", out, "--json").json == report
    assert (out / "report.json").read_bytes() == (made / "out" / "report.json").read_bytes()
    assert cli("compile", made / "model.onnx", "--target", "npu+cim", "-o", out, "-q").err == ""
    (out / "mine.txt").write_text("x")
    again = cli("compile", made / "model.onnx", "--target", "npu+cim", "-o", out)
    assert (again.code, (out / "mine.txt").read_text()) == (ExitCode.USAGE, "x")


def test_ledger_of_a_real_compile_sums_exactly(made: Path) -> None:
    report = load_report(made / "out")
    for field in ("latency_ps", "energy_pj"):
        for bound in ("low", "nominal", "high"):
            for rows in (report["ledger"], report["steps"]):
                assert sum(row[field][bound] for row in rows) == report["totals"][field][bound]
    assert report["model"]["macs"] == 2_656_768  # published for DS-CNN


def test_dry_run_writes_nothing(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("compile", made / "model.onnx", "--target", "npu+cim", "--dry-run", "--json", "-v")
    assert result.code == 0
    assert result.json == load_report(made / "out")
    assert "partition: " in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("box", ["model", "legal", "workload", "costs", "assignment", "schedule", "memory"])
def test_stop_after_gives_the_json_of_the_box(cli: Cli, made: Path, tmp_path: Path, box: str) -> None:
    base = ("compile", made / "model.onnx", "--target", "npu+cim", "--stop-after", box, "-q")
    printed = cli(*base, "--json")
    assert printed.code == 0
    assert cli(*base, "-o", tmp_path / "out") == Result(0, "", "")
    assert json.loads((tmp_path / "out" / f"{box}.json").read_bytes()) == printed.json
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([f"{box}.json", "manifest.json"])
    assert cli("report", tmp_path / "out").code == ExitCode.USAGE


def test_explain_every_node_of_the_model(cli: Cli, made: Path) -> None:
    import onnx

    names = [node.name for node in onnx.load(made / "model.onnx").graph.node]
    assert len(names) > 10
    for name in names:
        answer = cli("explain", made / "out", name, "--json")
        assert answer.code == 0
        (found,) = answer.json["answers"]
        assert found["op"] is not None or found["removed"]
        assert found["op"] is None or name in found["op"]["origin"]
    text = cli("explain", made / "out", names[-1]).out
    assert "cim.other_work" in text  # softmax: the CIM refuses, with its rule
    assert len(cli("explain", made / "out", "*", "--json").json["matches"]) > 10
    typo = cli("explain", made / "out", names[-1] + "x")
    assert typo.code == ExitCode.USAGE
    assert names[-1] in typo.err


def test_verify_and_a_tampered_folder(cli: Cli, made: Path, tmp_path: Path) -> None:
    import shutil

    result = cli("verify", made / "out", "--json")
    assert result.code == 0
    assert result.json["status"] == "verified"
    assert cli("verify", made / "out").out.startswith("verified: ")
    shutil.copytree(made / "out", tmp_path / "out")
    report = tmp_path / "out" / "report.json"
    report.write_bytes(report.read_bytes().replace(b"npu", b"cpu"))
    tampered = cli("verify", tmp_path / "out")
    assert tampered.code == ExitCode.INTEGRITY
    assert "report.json" in tampered.err


def test_classify(cli: Cli, made: Path) -> None:
    base = ("classify", made / "model.onnx", "--target", "npu+cim", "-q")
    value = cli(*base, "--json").json
    report = load_report(made / "out")
    assert [op["op"] for op in value["ops"]] == [op["id"] for op in report["ops"]]
    softmax = value["ops"][-1]
    assert {r["code"] for r in softmax["refusals"]} == {"cim.other_work"}
    for op in value["ops"]:
        assert op["moved_bytes"] > 0 or op["kind"] == "view"
        assert op["macs_per_byte"] == pytest.approx(
            op["macs"] / op["moved_bytes"] if op["moved_bytes"] else 0, rel=1e-5
        )
    text = cli(*base).out
    assert "no: cim.other_work" in text
    assert "ridge point of npu" in text


def test_passes_on_a_model(cli: Cli, made: Path, tmp_path: Path) -> None:
    import onnx

    listed = cli("passes", "--json").json
    assert [p["name"] for p in listed["passes"]] == sorted(p["name"] for p in listed["passes"])
    assert all(p["what"].endswith(".") for p in listed["passes"])
    assert cli("passes").code == 0
    file = tmp_path / "legal.onnx"
    result = cli("passes", made / "model.onnx", "--passes", "infer-shapes,drop-no-ops", "-o", file, "--json")
    assert [s["name"] for s in result.json["steps"]] == ["infer-shapes", "drop-no-ops"]
    onnx.checker.check_model(onnx.load(file))
    assert cli("passes", made / "model.onnx", "-o", file).code == ExitCode.USAGE  # it exists


def test_zoo_and_targets(cli: Cli, made: Path, tmp_path: Path) -> None:
    names = [m["name"] for m in cli("zoo", "list", "--json").json]
    assert "hybrid-xxs" in names
    value = cli("zoo", "ds-cnn", "-o", tmp_path / "m.onnx", "--seed", "0", "--json").json
    assert value["size_bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert (tmp_path / "m.onnx").read_bytes() == (made / "model.onnx").read_bytes()
    assert cli("zoo", "ds-cnn", "-o", tmp_path / "m.onnx").code == ExitCode.USAGE
    systems = [t["name"] for t in cli("targets", "list", "--json").json if t["kind"] == "system"]
    assert {"npu", "cim", "npu+cim", "host"} <= set(systems)
    shown = cli("targets", "show", "npu+cim", "--ops", "--json").json
    assert {"cim", "host", "npu"} == {s["device"] for s in shown["support"]}
    assert cli("targets", "show", "npu+cim", "--ops").code == 0
    changed = cli("targets", "show", "npu+cim", "--set", "cim.macros=8", "--json").json
    assert changed["sha256"] != shown["sha256"]
    assert cli("targets", "show", "npu+cim", "--set", "cim.macroz=8").code == ExitCode.USAGE


@pytest.mark.parametrize("width", [20, 60, 80])
def test_narrow_terminals(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    calls: list[tuple[object, ...]] = [
        ("report", made / "out"), ("zoo", "list"), ("passes",), ("targets", "list"), ("targets", "show", "npu+cim"),
        ("targets", "show", "npu+cim", "--ops"), ("explain", made / "out", "*Softmax*"),
        ("classify", made / "model.onnx", "--target", "npu+cim"),
    ]  # fmt: skip
    for call in calls:
        result = cli(*call)
        assert result.code == 0
        assert max(map(len, result.out.split("\n"))) <= max(60, width), call


# --- streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "code"), [(["zoo", "list"], 0), (["zoo", "list", "--json"], 0), (["zoo"], 2)])
def test_closed_pipe_is_quiet_and_keeps_the_code(arguments: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "h4hc", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert done.stderr == "" or code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_on_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "h4hc", "zoo", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == ExitCode.LIMIT
    assert done.stderr == "error[H4E900]: the disk is full\n"


def test_plain_ascii_terminal() -> None:
    done = python("-m", "h4hc", "zoo", "list", env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
