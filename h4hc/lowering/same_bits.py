"""How small a part of a quantised product may be, and where it may begin, if onnxruntime is to compute the same bits.

On a device a quantised product is a sum of integers, the same however its outputs are shared out. onnxruntime without
optimisations computes it in float32 between DequantizeLinear and QuantizeLinear, and a float sum depends on the order:
one result in a million lands on the other side of a rounding. Its matrix kernel (MLAS, sgemm.cpp) sums K products of
each of N columns in blocks, whose length depends on N; and a product of one row with a transposed matrix works on four
columns at a time and on the rest one by one. Parts that keep both keep the bits. Held against onnxruntime by a test.
"""

from __future__ import annotations

ROW_STEP = 4  # columns that one row is multiplied with at a time
_BLOCK, _LEAST_COLUMNS = 128, 16  # products summed at a time where the columns are many; columns of the narrowest panel


def block(columns: int) -> int:
    """Products that are summed in one block where there are so many columns, fewer than products.

    >>> [block(n) for n in (200, 65, 64, 32, 16, 1)]
    [128, 128, 256, 512, 1024, 1024]
    """
    panel, found = _BLOCK, _BLOCK
    while panel > _LEAST_COLUMNS and panel // 2 >= columns:
        panel, found = panel // 2, found * 2
    return found


def least_columns(columns: int, products: int) -> int:
    """The fewest columns that are summed in the same blocks as all of them.

    >>> least_columns(192, 128), least_columns(192, 192), least_columns(48, 300), least_columns(16, 4000)
    (1, 65, 33, 1)
    """
    whole = block(columns)
    if products <= whole or columns <= _LEAST_COLUMNS:
        return 1
    return _BLOCK * _BLOCK // whole // 2 + 1
