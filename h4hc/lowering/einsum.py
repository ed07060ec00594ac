"""Einsum: a batched matrix product where it is one, else a host operator with its MACs."""

from __future__ import annotations

import math

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import FullyConnectedParams, MatmulParams, OpKind

Terms = tuple[tuple[str, ...], tuple[str, ...]]


def einsum(site: Site) -> Lowered:
    """matmul or fully_connected when two operands, without a repeated letter, contract over their common letters.

    Both operands must keep their letters in the order batch, rows, columns, so that nothing has to be transposed
    inside the operator (the right one of a matmul may hold rows and columns either way, as K does in Q K^T:
    the product reads it by rows then). One constant matrix makes it fully_connected, on the left over the columns
    of the other operand (see matmul.py); a stack of constant matrices stays a matmul.
    """
    macs = einsum_macs(site)
    parsed = _parse(site)
    if parsed is None or len(parsed[0]) != 2:
        return generic(site, macs)
    (a, b), out, size = parsed
    common = [c for c in a if c in b]
    batch = [c for c in common if c in out]
    inner = [c for c in common if c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    distinct = all(len(set(term)) == len(term) for term in (a, b, out))
    if not distinct or not inner or set(out) != {*batch, *rows, *columns}:
        return generic(site, macs)
    straight = list(a) == batch + rows + inner and list(out) == batch + rows + columns
    by_rows, by_columns = list(b) == batch + inner + columns, list(b) == batch + columns + inner
    m, k, n = (math.prod(size[c] for c in part) for part in (rows, inner, columns))
    stack = math.prod(size[c] for c in batch)
    if not straight or not (by_rows or by_columns):
        return generic(site, macs)
    if site.is_constant(1) and stack == 1:
        return Lowered(OpKind.FULLY_CONNECTED, FullyConnectedParams("fully_connected", m, k, n), macs, Order.ROW_MAJOR)
    if site.is_constant(0) and stack == 1:
        params = FullyConnectedParams("fully_connected", n, k, m)
        turned = n > 1 and max(k, m) > 1
        return Lowered(OpKind.FULLY_CONNECTED, params, macs, Order.ROW_MAJOR, turned=turned)
    return Lowered(OpKind.MATMUL, MatmulParams("matmul", stack, m, k, n), macs, Order.ROW_MAJOR)


def einsum_macs(site: Site) -> int:
    """MACs of a contraction from left to right, one operand at a time.

    Joining two terms costs the product of the sizes of all letters in either; letters that no later term and not
    the result needs are summed away. One operand alone multiplies nothing.
    """
    parsed = _parse(site)
    if parsed is None:
        return 0
    terms, out, size = parsed
    macs, current = 0, set(terms[0])
    for index in range(1, len(terms)):
        joined = current | set(terms[index])
        macs += math.prod(size[c] for c in sorted(joined))
        later = set(out).union(*terms[index + 1 :])
        current = joined & later
    return macs


def _parse(site: Site) -> tuple[list[tuple[str, ...]], tuple[str, ...], dict[str, int]] | None:
    """Letters of the operands and of the result, and the size of each; an ellipsis becomes letters `.0`, `.1` ...

    None when the equation does not fit the shapes known.
    """
    equation = site.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    if len(texts) != len(site.node.inputs):
        return None
    size: dict[str, int] = {}
    terms: list[tuple[str, ...]] = []
    dots = 0
    for index, text in enumerate(texts):
        shape = site.shape(index)
        spread = len(shape) - len(text.replace("...", ""))
        if spread < 0 or ("..." not in text and spread):
            return None
        term = _letters(text, spread)
        dots = max(dots, spread)
        terms.append(term)
        for letter, dim in zip(term, shape, strict=True):
            if size.get(letter, 1) not in (1, dim) and dim != 1:
                return None
            size[letter] = max(size.get(letter, 1), dim) if dim else 0
    if arrow:
        return terms, _letters(right, dots), size
    seen = [letter for term in terms for letter in term]
    once = sorted(c for c in set(seen) if seen.count(c) == 1 and not c.startswith("."))
    return terms, (*(f".{i}" for i in reversed(range(dots))), *once), size


def _letters(text: str, spread: int) -> tuple[str, ...]:
    """Letters of one term; the axes of an ellipsis are numbered from the right, as broadcasting aligns them."""
    head, dots, tail = text.partition("...")
    middle = tuple(f".{i}" for i in reversed(range(spread))) if dots else ()
    return (*head, *middle, *tail)
