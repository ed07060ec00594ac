"""Entry point: `h4hc` and `python -m h4hc`."""

from __future__ import annotations

import gc
import sys

# One command makes some 100,000 long-lived objects; looking for cycles among them every 700 costs a tenth of its time.
GC_OBJECTS = 100_000


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(GC_OBJECTS)
    from h4hc.cli import run
    from h4hc.lazy_modules import install

    install()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
