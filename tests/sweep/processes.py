"""A run that is to be interrupted: started, watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def start(*words: str) -> subprocess.Popen[str]:
    """`h4hc WORDS` in a process group of its own, which Ctrl-C reaches even where a shell runs the tests unattended."""
    return subprocess.Popen(
        [sys.executable, "-m", "h4hc", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> dict[str, int]:
    """Entries of the cache with their inodes, once there are `count`."""
    for _ in range(6000):
        entries = {p.name: p.stat().st_ino for p in folder.glob("*.row")} if folder.is_dir() else {}
        if len(entries) >= count:
            return entries
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run makes no progress")


def outlives(group: int) -> bool:
    """Whether a process of the group is still there after the little time that the last one takes to end."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True
