"""For all tests: Ctrl-C as at a terminal, and at the end of a run what tests want a person to read.

A test hands that in by `record_property("summary", text)`, also under pytest-xdist.
"""

from __future__ import annotations

import signal

import pytest


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
