"""Units and their conversions: the one place where a cycle becomes time.

Plans are added up in integers, picoseconds and picojoules, so that a ledger sums exactly and ties
are real ties. 1 MAC = 1 multiply + 1 add. KiB = 1024 bytes.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * 1024
PS_PER_S = 10**12


def ceil_div(a: int, b: int) -> int:
    """Smallest integer >= a / b, for b > 0, without going through floats.

    >>> ceil_div(7, 2), ceil_div(8, 2), ceil_div(0, 5)
    (4, 4, 0)
    """
    return -(-a // b)


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for size, unit in steps:
        if abs(value) >= size:
            return f"{value / size:.4g} {unit}"
    size, unit = steps[-1]
    return f"{value / size:.4g} {unit}"


def format_time(ps: int) -> str:
    """Human form of a time in picoseconds.

    >>> format_time(4_820_000_000), format_time(1500)
    ('4.82 ms', '1.5 ns')
    """
    return _scaled(ps, ((1e12, "s"), (1e9, "ms"), (1e6, "us"), (1e3, "ns"), (1.0, "ps")))


def format_energy(pj: int) -> str:
    """Human form of an energy in picojoules.

    >>> format_energy(212_000_000)
    '212 uJ'
    """
    return _scaled(pj, ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ")))


def format_bytes(count: int) -> str:
    """Human form of a byte count; KiB = 1024.

    >>> format_bytes(42496), format_bytes(12)
    ('41.5 KiB', '12 B')
    """
    return _scaled(count, ((float(MIB), "MiB"), (float(KIB), "KiB"), (1.0, "B")))
