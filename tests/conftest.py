"""For all tests: the command line, Ctrl-C as at a terminal, and at the end of a run what tests want a person to read.

A test hands that in by `record_property("summary", text)`, also under pytest-xdist.
"""

from __future__ import annotations

import signal

import pytest

from tests.cli_call import Cli, Result


def pytest_configure() -> None:
    """Ctrl-C interrupts a test that asks for it, also where a shell runs the tests in the background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the summaries that tests recorded."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "summary" and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid}\n{text}")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """cli("compile", ...) runs `h4hc compile ...` on a terminal 100 wide."""
    from h4hc.cli import run

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("H4HC_DEBUG", raising=False)

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = run([*map(str, words)])
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call
