"""The READMEs are true: their console examples print what they say, their Python runs, their links exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme_blocks import BLOCK, Example, examples, run

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("h4hc", "passes", "targets", "nas", "tests", "tools")
READMES = [ROOT / "README.md", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md"))]
WITH_EXAMPLES = [path for path in READMES if BLOCK.search(path.read_text())]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=_id)
def test_examples_print_what_the_readme_says(path: Path, tmp_path: Path) -> None:
    for block in BLOCK.findall(path.read_text()):
        for example in examples(block):
            done = run(example.command, tmp_path)
            assert example.matches(done.stdout), f"$ {example.command}\n{done.stdout}\n{done.stderr}"
    for code in PYTHON.findall(path.read_text()):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_main_readme_has_examples() -> None:
    assert ROOT / "README.md" in WITH_EXAMPLES


@pytest.mark.parametrize("path", READMES, ids=_id)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{_id(path)} links to {target}"


def test_matching_knows_the_ellipsis() -> None:
    assert Example("", ("a", "...", "d")).matches("a\nb\nc\nd\n")
    assert Example("", ("a", "...", "d")).matches("a\nd\n")
    assert not Example("", ("a", "...", "d")).matches("a\nb\n")
    assert not Example("", ("a.c",)).matches("abc\n")
    assert Example("", ()).matches("")
