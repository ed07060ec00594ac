"""Splits carried out on a legalised ONNX model: parts with weights cut at compile time, Slice, Concat or Add."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from h4hc.errors import GraphError
from h4hc.lowering.channels import cuts, input_slices, output_slices
from h4hc.lowering.drafts import make_drafts
from h4hc.lowering.facts import OVERRIDABLE_SINCE_IR, learn
from h4hc.lowering.groups import make_groups
from h4hc.passbase import Pass, PassResult
from h4hc.pipeline import run_pipeline
from h4hc.splits import Split, check_splits
from h4hc.splitting.parts import Carver, drop_unread

MAKERS = {"output": output_slices, "input": input_slices}


def split_model(model: ir.Model, splits: tuple[Split, ...]) -> ir.Model:
    """A copy of a legalised model in which these operators are split; the model itself stays as it is.

    Each part is an operator (a group of nodes) of its own, in the place of the whole. Split by output channels, a model
    of integers computes the same bits; a float model the same numbers up to the order in which kernels sum.
    Raises: UserError with all splits that an operator does not take, and why.
    """
    return run_pipeline(model, (SplitChannels(splits),)).model


@dataclass(frozen=True)
class SplitChannels(Pass):
    """Split products into parts that make some of their output channels, or read some of their input channels.

    Before: x -> Conv -> Relu -> y. After: x -> Conv -> Relu for each part, with its share of weights and bias, and
    Concat of them -> y. By input channels: x -> Slice -> Conv for each part, Add of both -> Relu -> y.
    Requires: groups and shapes as the grouping passes leave them. Numerics: see `split_model`.
    """

    name: ClassVar[str] = "split-channels"
    splits: tuple[Split, ...] = ()

    def run(self, model: ir.Model) -> PassResult:
        """Split each operator named, in execution order."""
        known = learn(model)
        groups = make_groups(model, known)
        lowered = {draft.id: draft.lowered for draft in make_drafts(groups, known)}
        if known.problems:
            raise GraphError.of(tuple(known.problems))
        wanted = {split.op: split for split in self.splits}
        check_splits(
            self.splits, {g.id: cuts(g, lowered[g.id], known) for g in groups if g.id in wanted}, _names(model)
        )
        work = [
            (wanted[g.id], MAKERS[wanted[g.id].axis](g, lowered[g.id], known)) for g in groups if g.id in wanted
        ]  # all before the first change
        if work:
            _require_plain_initializers(model)
        carver = Carver(model)
        for split, cut in work:
            carver.split(split, cut)
        drop_unread(model.graph, carver)
        return PassResult(changed=len(work))


def _require_plain_initializers(model: ir.Model) -> None:
    """Before IR version 4 each initialiser was an input too: the model is brought to 4, where new ones need not be."""
    if model.ir_version < OVERRIDABLE_SINCE_IR:
        model.ir_version = OVERRIDABLE_SINCE_IR
        model.graph.inputs[:] = [v for v in model.graph.inputs if not v.is_initializer()]


def _names(model: ir.Model) -> Iterable[str]:
    """Names of all nodes and values."""
    for graph in model.graphs():
        yield from (str(v.name) for v in graph.inputs)
        yield from graph.initializers
        for node in graph:
            yield str(node.name)
            yield from (str(v.name) for v in node.outputs)
