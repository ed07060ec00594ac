"""One operator as it lies inside a network: between neighbours that make its tensors inner ones.

The vendor's compiler keeps the tensors between two operators in bricks of 16 channels and the file's own plainly, which
can cost twice as much. So what makes an input, and what reads an output, is written with the operator; its own steps
are told from theirs by the file's operators they come from. Inputs and outputs of the Workload stay those of the file.

The compiler fetches weights and tables behind the operator before, which costs are not to count on: they say what an
operator takes as the first of a network. So the operator is kept from its neighbours by a single element's; for the
compiler to take them in this order, each input has another reader, before that one. It also keeps a table from being
merged into what makes its input. A concatenation makes parts in their places unless others read them: those of its
inputs that have no other reader in the Workload have none here. It has neither weights nor tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from h4hc.workload import MoveParams, Op
from targets.ethos_u.maps import IMAGE_RANK, place_of
from targets.ethos_u.vendor.images import SAME
from targets.ethos_u.vendor.network import DEFAULT, Network, few_axes
from targets.ethos_u.vendor.tflite import Quant, Ref, Shape
from targets.ethos_u.work import deepened

NEIGHBOUR = "ABS"  # nothing is merged into it, and it into nothing; it takes any shape and keeps the scale
POOL = "MAX_POOL_2D"  # the same for an image of few channels, which ABS would have laid out anew
POOLED = {"Padding": SAME, "StrideH": 1, "StrideW": 1, "FilterHeight": 1, "FilterWidth": 2}
PARTS = ("slice", "split")  # a neighbour would read the part in its place, and nothing of the operator be left
KEEPER = (1, 1, 1, 1)  # its one element takes the compiler's least cycles


@dataclass
class Inside(Network):
    """A network of one operator and its neighbours. ours: which of the file's operators are theirs."""

    ours: set[int] = field(default_factory=set)

    def entered(self, op: Op, name: str, shape: Shape, quant: Quant) -> Ref:
        """An inner tensor comes out of a neighbour."""
        ref = super().entered(op, name, shape, quant)
        if self._inner(name):
            ref = self.values[name] = self._neighbour(op, ref)
        return ref

    def tensors(self, op: Op) -> tuple[list[Ref], list[Ref]]:
        """Inputs and outputs of the file, once `op` is written; neighbours behind it are written here."""
        inputs, made = list(self.inputs.values()), [(name, self.values[name]) for name in op.outputs]
        followed = not (isinstance(op.params, MoveParams) and op.params.function in PARTS)
        results = [self._neighbour(op, ref) if followed and self._inner(name) else ref for name, ref in made]
        others = [self._neighbour(op, self.values[name]) for name in self._shared(op)]
        if not others:
            return inputs, results
        keeper = self.model.activation("keeper", KEEPER, DEFAULT)
        # the last of a file's outputs is the first that the compiler makes
        return [*inputs, keeper], [*results, self._neighbour(op, keeper), *others]

    def _shared(self, op: Op) -> list[str]:
        """Inner inputs that get another reader."""
        inner = [name for name in self.inputs if self._inner(name)]
        if isinstance(op.params, MoveParams) and op.params.function == "concat":
            return [name for name in inner if len(self.workload.readers[name]) > 1]
        return inner

    def _inner(self, name: str) -> bool:
        return place_of(name, self.workload) == "inner"

    def _neighbour(self, op: Op, ref: Ref) -> Ref:
        """The same values from another operator, which takes four axes at most."""
        begun = self.model.operator_count
        source = self.reshaped(op, ref, few_axes(ref.shape))
        kind, options = (POOL, POOLED) if _laid_out_anew(source.shape) else (NEIGHBOUR, None)
        made = self.step(op, kind, [source], source.shape, options=options, dtype=ref.dtype)
        made = self.reshaped(op, made, ref.shape)
        self.ours |= set(range(begun, self.model.operator_count))
        return made


def _laid_out_anew(shape: Shape) -> bool:
    """Whether the compiler gives an image another shape where it works element by element."""
    if len(shape) != IMAGE_RANK or shape[0] != 1:
        return False
    image = shape[1], shape[2], shape[3]
    return deepened(image) != image
