"""Compiler for heterogeneous NPU + compute-in-memory chips: ONNX in, placed and costed partitions out."""

OWNER = "h4hc"
__version__ = "0.1.0"
