"""Blocks: the pieces that the networks of a search space are joined of, as Workloads with two loose ends.

One tensor crosses the border between two blocks, and the last operator of a block makes it. That is what lets a block
be costed once and for all: the rest of the network meets it only through the device on which that operator ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from h4hc.errors import Problem, UserError
from h4hc.live_memory import peak_live_bytes
from h4hc.workload import GenericParams, Op, OpKind, Tensor, Workload


@dataclass(frozen=True)
class Block:
    """A run of operators. A block without operators is a skip: it hands its entry on.

    workload: the operators and all tensors they touch; its inputs and outputs are those of the *network's* own tensors
    that the block reads or makes. entry: the tensor that the block before makes, "" where the network begins. exit: the
    tensor for the next block, "" where the network ends.
    """

    workload: Workload
    entry: str
    exit: str

    @property
    def signatures(self) -> tuple[Tensor | None, Tensor | None]:
        """Entry and exit without their names: blocks fit together where these are equal; None at the network's ends."""
        tensor = self.workload.tensor
        entry = replace(tensor[self.entry], name="") if self.entry else None
        return entry, replace(tensor[self.exit], name="") if self.exit else None


def skip(tensor: Tensor) -> Block:
    """A block that does nothing to `tensor`: one layer less."""
    return Block(Workload("skip", "as stored", (), (tensor,), (), ()), tensor.name, tensor.name)


def whole(workload: Workload) -> Block:
    """A network as one block."""
    return Block(workload, "", "")


def cut_blocks(workload: Workload, borders: Sequence[str]) -> tuple[Block, ...]:
    """Cut a network behind the operators that make the tensors `borders`, which are given in execution order.

    Raises UserError, with every fault, where a border is no operator's result, is out of order, is read within its
    own block or is an output of the network, or where another tensor crosses it as well.
    """
    position = {op.id: i for i, op in enumerate(workload.ops)}
    unknown = [b for b in borders if b not in workload.producer]
    if unknown:
        raise UserError("no operator makes this tensor", tuple(unknown), hint="`h4hc classify` lists the operators")
    ends = [position[workload.producer[b]] + 1 for b in borders]
    if sorted(set(ends)) != ends:
        raise UserError("borders are not in execution order", tuple(borders))
    starts = [0, *ends]
    stops = [*ends, len(workload.ops)]
    names = ["", *borders, ""]
    problems = _crossings(workload, borders, ends)
    if problems:
        raise UserError.of(tuple(problems))
    return tuple(
        _slice(workload, workload.ops[start:stop], names[i], names[i + 1])
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True))
    )


def _crossings(workload: Workload, borders: Sequence[str], ends: Sequence[int]) -> list[Problem]:
    """Every tensor that is needed on the far side of a border and is not that border."""
    problems = []
    for border, end in zip(borders, ends, strict=True):
        made = {n for op in workload.ops[:end] for n in op.outputs} | set(workload.inputs)
        read = {n for op in workload.ops[end:] for n in op.inputs}
        for name in sorted((made & read) - {border}):
            problems.append(
                Problem(f"{name!r} crosses the border {border!r}", (name,), "one tensor may", "cut elsewhere")
            )
        if border in workload.outputs:
            problems.append(Problem(f"the border {border!r} is an output of the network", (border,)))
    return problems


def _slice(workload: Workload, ops: tuple[Op, ...], entry: str, exit_: str) -> Block:
    touched = dict.fromkeys(n for op in ops for n in (*op.inputs, *op.outputs, *op.weights))
    tensors = tuple(workload.tensor[n] for n in touched)
    inputs = tuple(n for n in workload.inputs if n in touched)
    outputs = tuple(n for n in workload.outputs if n in touched and n not in workload.inputs)
    part = Workload(workload.name, workload.precision, ops, tensors, inputs, outputs)
    return Block(part, entry, exit_)


def peak_bytes(block: Block) -> int:
    """Largest sum of bytes alive during one operator of the block; entry and exit count as the block's.

    One tensor crosses a border, so the largest of its blocks is the `live_memory.peak_live_bytes` of a network.
    """
    work = block.workload
    if not work.ops:
        return work.tensor[block.entry].size_bytes
    inputs = (*work.inputs, *(n for n in (block.entry,) if n))
    outputs = (*work.outputs, *(n for n in (block.exit,) if n))
    return peak_live_bytes(replace(work, inputs=inputs, outputs=outputs))[0]


def block_problems(block: Block, name: str) -> list[Problem]:
    """What makes a block no block."""
    work = block.workload
    problems = []
    if block.exit and any(block.exit in op.inputs for op in work.ops):
        problems.append(Problem(f"block {name} reads its own exit {block.exit!r}", (block.exit,), hint="cut later"))
    if block.exit and work.ops and block.exit not in work.ops[-1].outputs:
        problems.append(
            Problem(f"the last operator of block {name} does not make its exit {block.exit!r}", (block.exit,))
        )
    if not work.ops and (not block.entry or block.entry != block.exit):
        problems.append(
            Problem(f"block {name} has no operator and hands nothing on", hint="see h4hc.batch.blocks.skip")
        )
    made = {n for op in work.ops for n in op.outputs} | set(work.inputs) | {block.entry}
    loose = sorted({n for op in work.ops for n in op.inputs} - made)
    if loose:
        problems.append(Problem(f"block {name} reads what nothing makes", tuple(loose), "its entry is one tensor"))
    return problems


def renamed(block: Block, prefix: str, entry: str | None = None) -> Block:
    """The same block with `prefix` before every name, and its entry called `entry` if given."""
    work = block.workload
    new = {t.name: f"{prefix}{t.name}" for t in work.tensors}
    if entry is not None:
        new[block.entry] = entry

    def names(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new[n] for n in old)

    ops = tuple(
        replace(
            op,
            id=f"{prefix}{op.id}",
            inputs=names(op.inputs),
            outputs=names(op.outputs),
            weights=names(op.weights),
        )
        for op in work.ops
    )
    tensors = tuple(replace(t, name=new[t.name]) for t in work.tensors)
    part = Workload(work.name, work.precision, ops, tensors, names(work.inputs), names(work.outputs))
    return Block(part, new.get(block.entry, ""), new.get(block.exit, ""))


def join_blocks(blocks: Sequence[Block]) -> Workload:
    """The network that blocks make in this order; names of block i begin with `i/`.

    Raises UserError where two neighbours do not fit or the ends are loose.
    """
    ops: list[Op] = []
    tensors: dict[str, Tensor] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    last: Tensor | None = None
    name = ""
    for i, block in enumerate(blocks):
        if block.signatures[0] != last:
            raise UserError(f"block {i} does not fit behind the one before", why=f"{block.signatures[0]} after {last}")
        part = renamed(block, f"{i}/", name if i else None)
        ops += part.workload.ops
        tensors.update((t.name, t) for t in part.workload.tensors)
        inputs += part.workload.inputs
        outputs += part.workload.outputs
        last, name = block.signatures[1], part.exit
    if last is not None:
        raise UserError("the last block hands a tensor on", why=f"{last}")
    precision = blocks[0].workload.precision
    return Workload("joined", precision, tuple(ops), tuple(tensors.values()), tuple(inputs), tuple(outputs))


def border_marker(id_: str, tensor: Tensor, *, makes: bool) -> Op:
    """A stand-in for the neighbour of a block: it makes the block's entry or reads its exit, on the host."""
    params = GenericParams("generic", "Border", "", tensor.elements)
    read, made = ((), (tensor.name,)) if makes else ((tensor.name,), ())
    size = tensor.size_bytes
    return Op(
        id=id_,
        kind=OpKind.GENERIC,
        params=params,
        inputs=read,
        outputs=made,
        weights=(),
        origin=(id_,),
        op_types=("Border",),
        dtype=tensor.dtype,
        macs=0,
        weight_bytes=0,
        input_bytes=0 if makes else size,
        output_bytes=size if makes else 0,
    )
