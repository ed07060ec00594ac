"""A space so small that a step takes milliseconds: two stages, the second with attention; 8 x 8 grey images."""

SPACE = {
    "name": "mini",
    "resolution": [8],
    "channels_in": 1,
    "stem": {"width": [8]},
    "stages": [
        {"name": "s1", "width": [8], "conv_depth": [1], "expand": [1, 2]},
        {"name": "s2", "width": [8, 16], "stride": 2, "conv_depth": [1, 2], "kernel": [3, 5], "expand": [2],
         "attention": {"depth": [0, 1, 2], "head_dim": 8, "mlp_ratio": [1, 2]}},
    ],
    "head": {"width": [16]},
}  # fmt: skip
