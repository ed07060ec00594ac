"""What a result can prove: whether an error in front of it would show in it at all."""

from __future__ import annotations

from typing import Any


def is_informative(value: Any) -> bool:
    """Whether a result can show an error at all: it has elements, and not only NaN and infinities."""
    import numpy as np

    if isinstance(value, list):
        return any(is_informative(np.asarray(item)) for item in value)
    if value is None or isinstance(value, dict) or value.dtype.kind in "OUSbiu":
        return value is not None and (isinstance(value, dict) or value.size > 0)
    return bool(np.isfinite(value.astype(np.complex128)).any())


def is_mute(value: Any) -> bool:
    """Whether a result has elements, and only NaN and infinities: any wrong arithmetic can hide behind them.

    An empty result hides nothing: its shape is all there is to compare.
    """
    import numpy as np

    return isinstance(value, np.ndarray) and value.size > 0 and not is_informative(value)


def is_flat(value: Any) -> bool:
    """Whether a float result of several elements has one value everywhere, so that most errors would not show."""
    import numpy as np

    if not isinstance(value, np.ndarray) or value.dtype.kind in "OUSbiu" or value.size < 2:
        return False
    numbers = value.astype(np.complex128).ravel()
    return bool((numbers == numbers[0]).all())
