"""Compiler for heterogeneous NPU + compute-in-memory chips: ONNX in, placed and costed partitions out."""

import os

OWNER = "h4hc"
__version__ = "0.1.0"

# onnxruntime reports its sessions to its vendor and writes to the user's cache folder from its import on, unless
# told not to. A model under compilation is nobody else's business; who wants it can still set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
