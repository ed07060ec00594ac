"""Named pass lists, as `--passes NAME` takes them; repeats are explicit."""

from __future__ import annotations

# Why this order. Shapes come first: nearly every rule needs them. Folding follows, and inference looks again at
# what folding has made known (it returns at once when nothing is unknown). No-ops go before layout, so that no
# Identity stands between two Transposes, and after it, because moving leaves reshapes and casts without effect.
# Batch norm is folded before anything is grouped. Larger patterns (LayerNorm) come before the smaller ones that share
# their operators; QuantizeLinear and DequantizeLinear then join the finished groups; attention names regions of what is
# there in the end.
PIPELINES: dict[str, str] = {
    "default": (
        "split-functions,infer-shapes,fold-constants,infer-shapes,fold-constants,drop-no-ops,"
        "replace-layout,drop-no-ops,fold-batch-norm,"
        "fuse-layer-norm,fuse-conv-bias,fuse-fully-connected,fuse-activation,absorb-qdq,fuse-attention"
    ),
    "minimal": "infer-shapes,fold-constants",
}
