"""The ```console blocks of a README: read them, run them, compare, or write the true output into them.

A block's lines that begin with `$ ` are commands; the lines after each are its whole stdout, where a line `...` stands
for any number of lines. Blocks of one file share one folder and run in order; stderr is not part of it.

    python -m tests.readme_blocks README.md        rewrites the outputs that no longer match
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDTH = "100"


@dataclass(frozen=True)
class Example:
    """One command and the output that the README shows for it."""

    command: str
    expected: tuple[str, ...]

    def matches(self, actual: str) -> bool:
        """Whether the output is what the README shows; trailing blanks do not count."""
        pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in self.expected)
        return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in actual.splitlines())) is not None


def examples(block: str) -> list[Example]:
    """The commands of one block."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line.rstrip())
    return [Example(command, tuple(expected)) for command, expected in found]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type one command into bash, with this Python's scripts on the path and a terminal of fixed width."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": WIDTH}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def rewritten(text: str) -> str:
    """The README with the outputs that no longer match replaced by the true ones."""
    with tempfile.TemporaryDirectory() as folder:

        def update(match: re.Match[str]) -> str:
            lines = []
            for example in examples(match[1]):
                actual = run(example.command, Path(folder)).stdout
                shown = example.expected if example.matches(actual) else actual.splitlines()
                lines += [f"$ {example.command}", *(line.rstrip() for line in shown)]
            return "```console\n" + "".join(f"{line}\n" for line in lines) + "```"

        return BLOCK.sub(update, text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(rewritten(Path(name).read_text()))
