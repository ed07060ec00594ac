"""The registries against the files, and the spelling rule: one name in four forms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from h4hc.errors import TargetError, UserError
from h4hc.passbase import Pass
from h4hc.pipeline import parse_pipeline
from h4hc.registry import PASSES, TARGET_FAMILIES, load_device, pass_class, pipelines, resolve

ROOT = Path(__file__).resolve().parents[1]


def _pass_files() -> set[str]:
    """Files of passes/ that define a pass."""
    return {
        path.stem
        for path in (ROOT / "passes").glob("*.py")
        if re.search(r"^class \w+\(Pass\):", path.read_text(), re.MULTILINE)
    }


def test_keys_are_the_files_that_define_a_pass() -> None:
    assert {name.replace("-", "_") for name in PASSES} == _pass_files()
    assert list(PASSES) == sorted(PASSES)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_one_name_in_four_spellings(name: str) -> None:
    cls = pass_class(name)
    assert issubclass(cls, Pass)
    assert cls.name == name
    assert cls.__name__ == "".join(part.capitalize() for part in name.split("-"))
    assert PASSES[name] == f"passes.{name.replace('-', '_')}:{cls.__name__}"
    assert (ROOT / "tests" / "passes" / f"test_{name.replace('-', '_')}.py").is_file()
    assert (cls.__doc__ or "").splitlines()[0].endswith(".")
    assert set(cls.after) <= set(PASSES)


VERBS = {"infer", "fold", "fuse", "split", "replace", "absorb", "drop", "insert", "sort", "check", "quantize"}


def test_verbs_are_a_closed_list() -> None:
    assert {name.split("-")[0] for name in PASSES} <= VERBS


def test_pipelines_parse_and_name_every_pass_once_at_least() -> None:
    named = {name: parse_pipeline(text) for name, text in pipelines().items()}
    assert {item.name for item in named["default"]} == set(PASSES)


def test_families_are_folders() -> None:
    folders = {p.parent.name for p in (ROOT / "targets").glob("*/spec.py")}
    assert set(TARGET_FAMILIES) == folders
    for path in TARGET_FAMILIES.values():
        assert callable(resolve(path))


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(UserError, match="fold-batch-norm"):
        pass_class("fold-batchnorm")
    with pytest.raises(TargetError, match="ethos_u"):
        load_device("ethos", "npu", {}, "x.toml")
