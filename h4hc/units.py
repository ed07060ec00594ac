"""Units and their conversions: the one place where a cycle becomes time.

Plans are added up in integers, picoseconds and picojoules, so that a ledger sums exactly and ties
are real ties. 1 MAC = 1 multiply + 1 add. KiB = 1024 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

KIB = 1024
MIB = 1024 * 1024
PS_PER_S = 10**12
TIME_UNITS = {"ps": 1, "ns": 10**3, "us": 10**6, "ms": 10**9, "s": PS_PER_S}  # in ps
ENERGY_UNITS = {"pJ": 1, "nJ": 10**3, "uJ": 10**6, "mJ": 10**9, "J": 10**12}  # in pJ
SIZE_UNITS = {"B": 1, "K": KIB, "KiB": KIB, "M": MIB, "MiB": MIB}  # in bytes
LARGEST_AMOUNT = 2**62
_AMOUNT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]{1,3})\Z", re.ASCII)


def parse_amount(text: str, units: Mapping[str, int]) -> int | None:
    """A number with a unit, as a whole number of the base unit, rounded down; None for anything else.

    The unit must be there and is case-sensitive: mJ is not MJ. So must the value: from 1 base unit to 2^62.

    >>> parse_amount("1.5ms", TIME_UNITS), parse_amount("256K", SIZE_UNITS), parse_amount("2 mJ", ENERGY_UNITS)
    (1500000000, 262144, 2000000000)
    >>> parse_amount("5", TIME_UNITS), parse_amount("5mj", ENERGY_UNITS), parse_amount("0.1ps", TIME_UNITS)
    (None, None, None)
    """
    match = _AMOUNT.match(text)
    if match is None or match[2] not in units:
        return None
    amount = int(Fraction(match[1]) * units[match[2]])
    return amount if 0 < amount <= LARGEST_AMOUNT else None


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
