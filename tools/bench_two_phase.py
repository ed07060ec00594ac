"""Single-phase against incremental supernet training: all arms, seeds and data sets, as tables.

Finished runs stay in OUT/runs, so that an interrupted study goes on where it stopped. OUT gets study.json, runs.csv
and study.md, which is printed as well.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, in the worker processes too

from h4hc.errors import H4hcError
from nas.study.command import bench
from nas.study.design import TWO_PHASE, load_study


def main() -> int:
    """Parse the options, run the study, print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("study"), help="folder of results (default: study)")
    parser.add_argument("-c", "--config", type=Path, default=TWO_PHASE, help="the study's YAML")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="processes, a core each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the study: steps=300")
    parser.add_argument("--mode", help="a shorter form: quick (minutes), smoke (seconds)")
    options = parser.parse_args()
    try:
        study = load_study(options.config, tuple(options.set))
        bench(study.mode(options.mode) if options.mode else study, options.out, options.jobs, _tell)
    except H4hcError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print((options.out / "study.md").read_text(encoding="utf-8"), end="")
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
