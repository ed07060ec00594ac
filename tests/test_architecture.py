"""The folder table of h4hc/README.md, held against the imports by reading the sources (nothing is imported)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("h4hc", "passes", "targets", "nas")
ONNX_IR_FILES = {
    "annotations",
    "passbase",
    "pipeline",
    "load",
    "lower",
    "partitioned",
    "loading",
    "lowering",
    "splitting",
    "zoo",
}
PULP_FILE = "h4hc/planning/ilp.py"
PASSES_MAY = {"h4hc.passbase", "h4hc.annotations", "h4hc.errors", "h4hc.diagnostics", "h4hc.sandbox", "h4hc.limits"}
TARGETS_MAY = {
    "h4hc.workload",
    "h4hc.costtypes",
    "h4hc.system_spec",
    "h4hc.quantity",
    "h4hc.units",
    "h4hc.errors",
    "h4hc.system",
}
NAS_MAY = {"h4hc.api", "h4hc.errors"}
LINES = 400


def _sources(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _runtime_imports(path: Path) -> list[str]:
    """Modules imported for real: those under `if TYPE_CHECKING:` are left out."""
    tree = ast.parse(path.read_text())
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            hidden.update(inner for statement in node.body for inner in ast.walk(statement))
    found = []
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module in FOLDERS:  # from h4hc import annotations
                found += [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                found.append(str(node.module))
    return found


def _offences(folder: str, allowed: object) -> list[str]:
    assert callable(allowed)
    return [
        f"{_name(path)} imports {module}"
        for path in _sources(folder)
        for module in _runtime_imports(path)
        if not allowed(path, module)
    ]


def _top(module: str) -> str:
    return module.partition(".")[0]


def test_h4hc_reaches_passes_targets_and_nas_only_through_the_registry() -> None:
    assert _offences("h4hc", lambda path, module: _top(module) not in {"passes", "targets", "nas"}) == []


def test_nothing_but_nas_imports_torch() -> None:
    for folder in ("h4hc", "passes", "targets"):
        assert _offences(folder, lambda path, module: _top(module) != "torch") == []


def test_onnx_ir_stays_in_the_front_end() -> None:
    def allowed(path: Path, module: str) -> bool:
        part = path.relative_to(ROOT / "h4hc").parts[0].removesuffix(".py")
        return _top(module) != "onnx_ir" or part in ONNX_IR_FILES

    assert _offences("h4hc", allowed) == []
    assert _offences("targets", lambda path, module: _top(module) not in {"onnx_ir", "onnx", "onnxruntime"}) == []


def test_the_solver_library_has_one_user() -> None:
    def allowed(path: Path, module: str) -> bool:
        return _top(module) not in {"pulp", "highspy"} or _name(path) == PULP_FILE

    for folder in FOLDERS:
        assert _offences(folder, allowed) == []


def test_passes_know_the_contract_only() -> None:
    def allowed(path: Path, module: str) -> bool:
        if _top(module) == "h4hc":
            return module in PASSES_MAY
        return _top(module) not in {"targets", "nas"}

    assert _offences("passes", allowed) == []


def test_target_families_know_the_contract_and_themselves() -> None:
    def allowed(path: Path, module: str) -> bool:
        if _top(module) == "h4hc":
            return module in TARGETS_MAY
        family = path.relative_to(ROOT / "targets").parts[0]
        return _top(module) not in {"passes", "nas", "targets"} or module.split(".")[1:2] == [family]

    assert _offences("targets", allowed) == []


def test_nas_uses_the_api_only() -> None:
    def allowed(path: Path, module: str) -> bool:
        return _top(module) not in {"h4hc", "passes", "targets"} or module in NAS_MAY

    assert _offences("nas", allowed) == []


def test_tests_and_tools_are_not_imported() -> None:
    for folder in FOLDERS:
        assert _offences(folder, lambda path, module: _top(module) not in {"tests", "tools"}) == []


@pytest.mark.parametrize("path", _sources(*FOLDERS), ids=_name)
def test_files_can_be_read_in_a_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES
    assert path.stem != "utils"


def test_every_folder_says_its_duty() -> None:
    folders = {path.parent for path in _sources(*FOLDERS) if path.parent.name != "presets"}
    missing = [_name(folder) for folder in sorted(folders) if not (folder / "README.md").is_file()]
    assert missing == []


def test_packages_are_listed_by_name() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {_name(p.parent).replace("/", ".") for p in _sources(*FOLDERS) if p.name == "__init__.py"}
    assert listed == present


@pytest.mark.parametrize("folder", FOLDERS)
def test_top_level_packages_bear_their_owner(folder: str) -> None:
    assert re.search(r'^OWNER = "h4hc"$', (ROOT / folder / "__init__.py").read_text(), re.MULTILINE)
