"""Matrix products: MatMul, Gemm and their quantised and fused forms, as fully_connected or matmul.

One constant operand of one matrix, on either side, makes it fully_connected: positions x in x out MACs. Two
activations, or an activation and a stack of constant matrices, make it matmul: batch x m x k x n MACs. What fits
neither (an addend that is computed, two activations of which one is read transposed) is a host operator with the
same MACs. Where the activation of a fully_connected lies transposed (`Lowered.turned`), a diagnostic says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import FullyConnectedParams, MatmulParams, OpKind


@dataclass(frozen=True)
class Slots:
    """Where an operator keeps its two operands, and a third that is added."""

    left: int
    right: int
    added: int = -1


SLOTS: dict[str, Slots] = {
    "DynamicQuantizeMatMul": Slots(0, 1),
    "FusedGemm": Slots(0, 1, 2),
    "FusedMatMul": Slots(0, 1),
    "Gemm": Slots(0, 1, 2),
    "MatMul": Slots(0, 1),
    "MatMulInteger": Slots(0, 1),
    "MatMulInteger16": Slots(0, 1),
    "MatMulIntegerToFloat": Slots(0, 1),
    "QGemm": Slots(0, 3, 6),
    "QLinearMatMul": Slots(0, 3),
    "SparseToDenseMatMul": Slots(0, 1),
    "TransposeMatMul": Slots(0, 1),
}


@dataclass(frozen=True)
class Product:
    """(batch, m, k) x (batch, k, n): sizes of a product, with the batches of the operands by themselves."""

    batch: int
    m: int
    k: int
    n: int
    left_batch: int
    right_batch: int

    @property
    def macs(self) -> int:
        """batch x m x k x n."""
        return self.batch * self.m * self.k * self.n


def product(site: Site) -> Product:
    """Sizes of the product at the anchor, by numpy's rules of matmul. Raises Refused when they do not fit."""
    slots = SLOTS[site.node.op_type]
    left, right = site.shape(slots.left), site.shape(slots.right)
    seen = f"{list(left)} x {list(right)}"
    if not left or not right:
        raise site.refuse(f"{site.node.op_type} of a scalar", f"both operands need an axis: {seen}")
    if len(left) == 1:
        left = (1, *left)
    if len(right) == 1:
        right = (*right, 1)
    if site.integer("transA", 0):
        left = (*left[:-2], left[-1], left[-2])
    if site.integer("transB", 0):
        right = (*right[:-2], right[-1], right[-2])
    if left[-1] != right[-2]:
        raise site.refuse(
            f"{site.node.op_type} multiplies matrices that do not fit",
            f"inner sizes {left[-1]} and {right[-2]}: {seen}",
        )
    batch = _broadcast(site, left[:-2], right[:-2], seen)
    return Product(math.prod(batch), left[-2], left[-1], right[-1], math.prod(left[:-2]), math.prod(right[:-2]))


def matmul(site: Site) -> Lowered:
    """MatMul, Gemm, MatMulInteger, QLinearMatMul, QGemm ...: fully_connected, matmul or generic."""
    slots, sizes = SLOTS[site.node.op_type], product(site)
    left_fixed, right_fixed = site.is_constant(slots.left), site.is_constant(slots.right)
    activation = site.text("activation", "").lower()
    if site.has(slots.added) and slots.added > 0 and not site.is_constant(slots.added):
        return generic(site, sizes.macs)  # an added matrix that is computed: no accelerator's bias
    if right_fixed and not left_fixed and sizes.right_batch == 1:
        positions = sizes.batch * sizes.m
        lowered = _fully_connected(positions, sizes.k, sizes.n, Order.ROW_MAJOR, sizes.macs, activation)
        return replace(lowered, turned=_is_turned(site, "transA", sizes.m, sizes.k))
    if left_fixed and not right_fixed and sizes.left_batch == 1:
        return _left_weights(site, sizes, activation)
    if _is_turned(site, "transA", sizes.m, sizes.k) or _is_turned(site, "transB", sizes.k, sizes.n):
        return generic(site, sizes.macs)
    params = MatmulParams("matmul", sizes.batch, sizes.m, sizes.k, sizes.n)
    return Lowered(OpKind.MATMUL, params, sizes.macs, Order.ROW_MAJOR, activation=activation)


def matmul_macs(site: Site) -> int:
    """MACs alone, for shapes that depend on data: out elements x k.

    Where the dimensions of the left operand are not known by themselves, by the three sizes:
    m k n = sqrt((m k) (k n) (m n)).
    """
    slots = SLOTS[site.node.op_type]
    left, right, out = site.fact(slots.left), site.fact(slots.right), site.facts[site.node.outputs[0]]
    if not left.dimwise or not left.shape:
        return math.isqrt(left.elements * right.elements * out.elements)
    turned = site.integer("transA", 0) and len(left.shape) > 1
    return out.elements * left.shape[-2 if turned else -1]


def matmul_n_bits(site: Site) -> Lowered:
    """com.microsoft MatMulNBits, MatMulBnb4, MatMulFpQ4: weights packed below 8 bits, K x N by attribute."""
    return generic(site, n_bits_macs(site))


def n_bits_macs(site: Site) -> int:
    """positions x K x N; K is the last axis of the input, N that of the result."""
    return math.prod(site.out()) * (site.shape(0)[-1] if site.shape(0) else 0)


def _fully_connected(positions: int, k: int, n: int, order: Order, macs: int, activation: str) -> Lowered:
    params = FullyConnectedParams("fully_connected", positions, k, n)
    return Lowered(OpKind.FULLY_CONNECTED, params, macs, order, activation=activation)


def _left_weights(site: Site, sizes: Product, activation: str) -> Lowered:
    """y = W x: every column of x is a position.

    Of a (N, k, n) tensor held channels-last the columns lie together, so it is fully connected over the channels.
    A single column is a vector in any order. Any other x is taken row-major, where its columns lie apart: the
    operator reads x, or with transB writes y, transposed.
    """
    plain = not site.integer("transB", 0)
    by_channels = plain and len(site.shape(SLOTS[site.node.op_type].right)) == 3 and len(site.out()) == 3
    order = Order.CHANNELS_LAST if by_channels else Order.ROW_MAJOR
    lowered = _fully_connected(sizes.batch * sizes.n, sizes.k, sizes.m, order, sizes.macs, activation)
    return replace(lowered, turned=not by_channels and sizes.n > 1 and max(sizes.k, sizes.m) > 1)


def _is_turned(site: Site, name: str, rows: int, columns: int) -> bool:
    """Whether an activation is read transposed, and that moves bytes."""
    return bool(site.integer(name, 0)) and rows > 1 and columns > 1


def _broadcast(site: Site, left: tuple[int, ...], right: tuple[int, ...], seen: str) -> tuple[int, ...]:
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    sizes = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            raise site.refuse(f"{site.node.op_type} of stacks that do not fit", seen)
        sizes.append(b if a == 1 else a)
    return tuple(sizes)
