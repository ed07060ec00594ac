"""Numbers of a digital compute-in-memory device. See README.md in this folder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from h4hc.quantity import Quantity, Sourced, unit
from h4hc.system_spec import Shared

BITS_PER_BYTE = 8
KINDS = ("mram_nearmem", "sram_digital")
ANALOG_KINDS = ("sram_analog", "rram_analog")

Count = Annotated[int, Field(gt=0)]


class CimSpec(Sourced):
    """`macros` equal macros: a weight bank, one read port of `read_bits`, `cus` compute units, a post unit.

    columns: outputs that one read word serves side by side in an array macro (1: the word belongs to one output, or
    is cut into segments). input_cycles: reads a step takes (bit-serial inputs). segments: the adder tree can be cut
    so that several short filters share one word. dedup: overlapping windows cross the bus once.
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    kind: str
    macros: Count
    cus: Count
    read_bits: Count
    weight_bits: Count
    bank_bits: Count
    columns: Count
    input_cycles: Count
    segments: bool
    dedup: bool
    input_types: Annotated[tuple[str, ...], Field(strict=False)]
    post_activations: Annotated[tuple[str, ...], Field(strict=False)]
    read_cycle: Annotated[Quantity, unit("ns", positive=True)]
    fill: Annotated[Quantity, unit("ns")]
    start: Annotated[Quantity, unit("ns", positive=True)]
    view: Annotated[Quantity, unit("ns", positive=True)]
    write_bandwidth: Annotated[Quantity, unit("B/s", positive=True)]
    read_energy: Annotated[Quantity, unit("pJ/bit")]
    mac_energy: Annotated[Quantity, unit("pJ/MAC")]
    post_energy: Annotated[Quantity, unit("pJ/output")]
    start_energy: Annotated[Quantity, unit("pJ")]
    write_energy: Annotated[Quantity, unit("pJ/bit")]
    leakage_per_macro: Annotated[Quantity, unit("W")]

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind in ANALOG_KINDS:
            raise ValueError(f"kind {kind!r} is not modelled yet: ADC, output error; use one of {', '.join(KINDS)}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        return kind

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.read_bits % (self.weight_bits * self.columns) or self.read_bits % BITS_PER_BYTE:
            raise ValueError("read_bits must be a multiple of weight_bits * columns, and of 8")
        if self.bank_bits % self.read_bits:
            raise ValueError("bank_bits must be a multiple of read_bits")
        return self

    @property
    def rows(self) -> int:
        """Weights of one output that one read word holds (`lanes` where columns is 1)."""
        return self.read_bits // self.weight_bits // self.columns

    @property
    def word_bytes(self) -> int:
        """Bytes of a read word."""
        return self.read_bits // BITS_PER_BYTE

    @property
    def bank_bytes(self) -> int:
        """Weight store of one macro [B]."""
        return self.bank_bits // BITS_PER_BYTE

    @property
    def resident(self) -> bool:
        """Whether weights stay between inferences (MRAM) or are written each time (SRAM)."""
        return self.kind == "mram_nearmem"
