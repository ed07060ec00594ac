"""Numbers of a compute-in-memory device. See README.md in this folder."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from h4hc.quantity import Quantity, Schema, Sourced, unit
from h4hc.system_spec import Shared
from h4hc.units import ceil_div

BITS_PER_BYTE = 8
ANALOG_KINDS = ("sram_analog", "rram_analog")
WEARING_KINDS = ("mram_nearmem", "rram_analog")  # cells that bear a limited number of writes

MOST_UNITS = 64  # macros, compute units: each macro is a mode of the plan
MOST_READ_BITS = 2**22
MOST_BANK_BITS = 2**36
MOST_BITS = 32  # of a weight or an input
MOST_ADC_BITS = 16
MOST_SHARED = 4096  # columns behind one converter
MOST_INFERENCES = 10**9

Kind = Literal["mram_nearmem", "sram_digital", "sram_analog", "rram_analog"]
Residency = Literal["resident", "per_wake_up", "per_inference"]
Units = Annotated[int, Field(gt=0, le=MOST_UNITS)]
Bits = Annotated[int, Field(gt=0, le=MOST_BITS)]
ReadBits = Annotated[int, Field(gt=0, le=MOST_READ_BITS)]
InputType = Literal["int8", "uint8"]  # the models count one byte an element
PostFunction = Literal[  # what the compiler fuses; beyond the clamps, the post unit needs a table
    "clip", "relu", "relu6", "relu_n1_to_1",
    "elu", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "prelu", "quick_gelu", "sigmoid",
    "silu", "softplus", "swish", "tanh",
]  # fmt: skip


class Adc(Schema):
    """Converters of an analog array.

    rows: cells of a column summed in one conversion. conversions_per_output: physical columns of one weight (bit
    slices). columns_per_adc: physical columns that take turns at one converter. output_error: rms error of a converted
    sum over its full scale, noise and non-linearity together.
    """

    bits: Annotated[int, Field(gt=0, le=MOST_ADC_BITS)]
    rows: ReadBits
    conversions_per_output: Bits
    columns_per_adc: Annotated[int, Field(gt=0, le=MOST_SHARED)]
    conversion: Annotated[Quantity, unit("ns", positive=True)]
    conversion_energy: Annotated[Quantity, unit("pJ")]
    area: Annotated[Quantity, unit("um2")]
    output_error: Annotated[Quantity, unit("ratio")]


class CimSpec(Sourced):
    """`macros` equal macros: a weight bank, one read port of `read_bits`, `cus` compute units, a post unit.

    columns: outputs that one read word serves side by side in an array (1: the word belongs to one output, or is cut
    into segments). segments: the adder tree can be cut so that several short filters share one word. diagonal: filters
    of different channel groups may stand in different rows and columns of one word, zeros elsewhere. dedup:
    overlapping windows cross the bus once. An input of `input_bits` enters `bits_per_cycle` at a time.
    residency: weights are programmed once, once a wake-up, or before each operator of each inference.
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    kind: Kind
    macros: Units
    cus: Units
    read_bits: ReadBits
    weight_bits: Bits
    bank_bits: Annotated[int, Field(gt=0, le=MOST_BANK_BITS)]
    columns: ReadBits
    input_bits: Bits
    bits_per_cycle: Bits
    segments: bool
    diagonal: bool
    dedup: bool
    residency: Residency
    inferences_per_wake_up: Annotated[int, Field(gt=0, le=MOST_INFERENCES)]
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
    wake_up: Annotated[Quantity, unit("us")]
    wake_up_energy: Annotated[Quantity, unit("pJ")]
    bit_area: Annotated[Quantity, unit("um2")]
    lane_area: Annotated[Quantity, unit("um2")]
    wake_ups_per_s: Annotated[Quantity, unit("1/s", positive=True)] | None = None
    endurance: Annotated[Quantity, unit("writes", positive=True)] | None = None
    adc: Adc | None = None

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.read_bits % (self.weight_bits * self.columns) or self.read_bits % BITS_PER_BYTE:
            raise ValueError("read_bits must be a multiple of weight_bits * columns, and of 8")
        if self.bank_bits % self.read_bits:
            raise ValueError("bank_bits must be a multiple of read_bits")
        if self.bits_per_cycle > self.input_bits:
            raise ValueError("bits_per_cycle must be at most input_bits")
        if self.segments and self.diagonal:
            raise ValueError("diagonal has no use with segments: cut trees share words already")
        return self

    @model_validator(mode="after")
    def _parts_of_the_kind(self) -> Self:
        for name in ("endurance", "wake_ups_per_s"):
            if (self.kind in WEARING_KINDS) != (getattr(self, name) is not None):
                raise ValueError(f"{name} must be given for {', '.join(WEARING_KINDS)}, and for no other kind")
        if self.analog != (self.adc is not None):
            raise ValueError(f"[adc] must be given for {', '.join(ANALOG_KINDS)}, and for no other kind")
        if self.adc is None:
            return self
        if self.cus != 1 or self.segments:
            raise ValueError("an analog column sums all its rows for one position: cus must be 1, segments false")
        if self.adc.rows > self.rows:
            raise ValueError(f"adc.rows must be at most the {self.rows} rows of the array")
        return self

    @property
    def analog(self) -> bool:
        """Whether sums are formed as currents or charges, and converted."""
        return self.kind in ANALOG_KINDS

    @cached_property
    def rows(self) -> int:
        """Weights of one output that one read word holds (`lanes` where columns is 1)."""
        return self.read_bits // self.weight_bits // self.columns

    @property
    def rows_at_once(self) -> int:
        """Rows summed in one activation: all in a digital tree, those of one conversion in an analog column."""
        return self.rows if self.adc is None else self.adc.rows

    @property
    def input_cycles(self) -> int:
        """Cycles in which all bits of an input enter."""
        return ceil_div(self.input_bits, self.bits_per_cycle)

    @property
    def word_bytes(self) -> int:
        """Bytes of a read word."""
        return self.read_bits // BITS_PER_BYTE

    @property
    def bank_bytes(self) -> int:
        """Weight store of one macro [B]."""
        return self.bank_bits // BITS_PER_BYTE

    @property
    def stays(self) -> bool:
        """Whether weights stay from one inference to the next, so that all operators share the store."""
        return self.residency != "per_inference"

    @cached_property
    def inferences_per_reload(self) -> int:
        """Inferences that share one writing of the weights; 0 where they are never rewritten."""
        return {"resident": 0, "per_wake_up": self.inferences_per_wake_up, "per_inference": 1}[self.residency]

    @cached_property
    def cost_marks(self) -> tuple[str, ...]:
        """Evidence marks of all numbers that an operator's cost rests on, sorted."""
        shared = self.shared
        used = [self.read_cycle, self.fill, self.start, self.start_energy, self.read_energy, self.mac_energy]
        used += [self.post_energy, shared.bus.bandwidth, shared.bus.energy]
        used += [shared.sram.read_energy, shared.sram.write_energy]
        if self.inferences_per_reload:
            used += [shared.flash.bandwidth, shared.flash.read_energy, self.write_bandwidth, self.write_energy]
        if self.adc is not None:
            used += [self.adc.conversion, self.adc.conversion_energy]
        return tuple(sorted({q.mark for q in used}))
