"""In which element types a model is costed: as stored, or a float model as if it were quantised to int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from h4hc.lowering.dtypes import is_float, size_bytes
from h4hc.lowering.facts import Known
from h4hc.lowering.site import Fact

PLANNED = "int8"
PLANNED_BIAS = "int32"  # biases are added to 32-bit accumulators

_QUANTISING = frozenset({"QAttention", "QEmbedLayerNormalization", "QGemm", "QMoE", "QuantizeLinear"})
_QUANTISING_STEMS = ("DequantizeLinear", "DynamicQuantize", "QLinear")


@dataclass(frozen=True)
class Plan:
    """int8: float tensors are costed as int8."""

    int8: bool

    @staticmethod
    def choose(model: ir.Model, known: Known, precision: Literal["auto-int8", "stored"]) -> Plan:
        """int8 for a float model that holds no quantising operator, unless the stored types are asked for."""
        if precision == "stored" or any(_is_quantising(node) for node in model.graph.all_nodes()):
            return Plan(False)
        return Plan(any(is_float(fact.dtype) for fact in known.facts.values()))

    @property
    def precision(self) -> Literal["as stored", "planned int8"]:
        """As the workload names it."""
        return "planned int8" if self.int8 else "as stored"

    def dtype(self, stored: str, bias: bool = False) -> str:
        """Element type of a tensor in this plan."""
        if not self.int8 or not is_float(stored):
            return stored
        return PLANNED_BIAS if bias else PLANNED

    def size_bytes(self, fact: Fact, bias: bool = False) -> int:
        """Bytes of a tensor in this plan."""
        return size_bytes(fact.elements, self.dtype(fact.dtype, bias))


def _is_quantising(node: ir.Node) -> bool:
    name = node.op_type
    return name in _QUANTISING or name.startswith(_QUANTISING_STEMS) or "Integer" in name
