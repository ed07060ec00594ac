"""Entry point: `h4hc` and `python -m h4hc`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from h4hc.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
