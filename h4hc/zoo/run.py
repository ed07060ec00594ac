"""Run a model on onnxruntime, one thread, quiet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


def run_model(
    model: onnx.ModelProto, images: NDArray[np.float32], outputs: Sequence[str] | None = None
) -> list[NDArray[np.float32]]:
    """Outputs (all, or those named) of the model for its one input.

    Basic optimisation only: the stronger levels rewrite quantised models in ways that change results.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the order of a sum must not depend on the machine
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(outputs, {session.get_inputs()[0].name: images})
    return results
