"""Numbers of a digital compute-in-memory device. See README.md in this folder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from h4hc.quantity import Quantity, Sourced, unit
from h4hc.system_spec import Shared

BITS_PER_BYTE = 8
KINDS = ("mram_nearmem", "sram_digital")
ANALOG_KINDS = ("sram_analog", "rram_analog")

MOST_UNITS = 64  # macros, compute units, reads a step: each macro is a mode of the plan
MOST_READ_BITS = 65536
MOST_BANK_BITS = 2**36
MOST_WEIGHT_BITS = 32

Units = Annotated[int, Field(gt=0, le=MOST_UNITS)]
InputType = Literal["int8", "uint8"]  # the models count one byte an element
PostFunction = Literal[  # what the compiler fuses; beyond the clamps, the post unit needs a table
    "clip", "relu", "relu6", "relu_n1_to_1",
    "elu", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "prelu", "quick_gelu", "sigmoid",
    "silu", "softplus", "swish", "tanh",
]  # fmt: skip


class CimSpec(Sourced):
    """`macros` equal macros: a weight bank, one read port of `read_bits`, `cus` compute units, a post unit.

    columns: outputs that one read word serves side by side in an array macro (1: the word belongs to one output, or
    is cut into segments). input_cycles: reads a step takes (bit-serial inputs). segments: the adder tree can be cut
    so that several short filters share one word. dedup: overlapping windows cross the bus once.
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    kind: str
    macros: Units
    cus: Units
    read_bits: Annotated[int, Field(gt=0, le=MOST_READ_BITS)]
    weight_bits: Annotated[int, Field(gt=0, le=MOST_WEIGHT_BITS)]
    bank_bits: Annotated[int, Field(gt=0, le=MOST_BANK_BITS)]
    columns: Annotated[int, Field(gt=0, le=MOST_READ_BITS)]
    input_cycles: Units
    segments: bool
    dedup: bool
    input_types: Annotated[tuple[InputType, ...], Field(strict=False, min_length=1)]
    post_activations: Annotated[tuple[PostFunction, ...], Field(strict=False)]
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
