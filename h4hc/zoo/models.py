"""The models the zoo can make: names, figures and where each builder lives.

Importing this file costs nothing: the builders (numpy, onnx, onnxruntime) are named as text and
imported by `h4hc.zoo.build` when a model is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ZooModel:
    """One model made by code.

    input_shape: as in ONNX, batch first. macs: multiply-accumulates of convolutions, linear layers and
    matrix products of one inference (nothing else is counted). parameters: trainable ones (weights,
    biases, norm scales and shifts), not the running statistics of batch norm. Both are exact for the
    float model and held by a test. published_macs and published_parameters: the figure in the
    literature, None where the net is our own; published_macs_digit is the worth of the last digit the
    literature prints, so that |macs - published_macs| <= published_macs_digit / 2 must hold.
    source: who published the net and the figures. build: "module:function" that describes the graph.
    """

    name: str
    title: str
    task: str
    source: str
    input_shape: tuple[int, ...]
    macs: int
    parameters: int
    published_macs: int | None
    published_macs_digit: int
    published_parameters: int | None
    build: str


_ALL = (
    ZooModel(
        name="ds-cnn",
        title="DS-CNN, keyword spotting",
        task="keyword spotting, 12 classes",
        source="Zhang et al., Hello Edge, arXiv:1711.07128; MLPerf Tiny keyword_spotting (mlcommons/tiny)",
        input_shape=(1, 1, 49, 10),
        macs=2_656_768,
        parameters=23_756,
        published_macs=2_656_768,
        published_macs_digit=1,
        published_parameters=23_756,
        build="h4hc.zoo.tiny:ds_cnn",
    ),
    ZooModel(
        name="fpn-detector",
        title="residual backbone, feature pyramid, shared detector head",
        task="object detection, 8 classes, 3 scales",
        source="our own net, after Lin et al., FPN, arXiv:1612.03144 and RetinaNet, arXiv:1708.02002",
        input_shape=(1, 3, 256, 256),
        macs=553_959_424,
        parameters=1_521_644,
        published_macs=None,
        published_macs_digit=1,
        published_parameters=None,
        build="h4hc.zoo.fpn:fpn_detector",
    ),
    ZooModel(
        name="hybrid-xxs",
        title="MobileViT-XXS, convolution and transformer",
        task="image classification, 1000 classes",
        source="Mehta and Rastegari, MobileViT, arXiv:2110.02178; apple/mobilevit-xx-small; timm model card "
        "mobilevit_xxs.cvnets_in1k (1.3 M parameters, 0.4 GMAC)",
        input_shape=(1, 3, 256, 256),
        macs=407_364_096,
        parameters=1_272_024,
        published_macs=400_000_000,
        published_macs_digit=100_000_000,
        published_parameters=1_272_024,
        build="h4hc.zoo.mobilevit:mobilevit_xxs",
    ),
    ZooModel(
        name="mobilenet-v2",
        title="MobileNetV2 1.0, 224",
        task="image classification, 1000 classes",
        source="Sandler et al., MobileNetV2, arXiv:1801.04381; torchvision mobilenet_v2 (num_params 3504872)",
        input_shape=(1, 3, 224, 224),
        macs=300_774_272,
        parameters=3_504_872,
        published_macs=300_800_000,
        published_macs_digit=100_000,
        published_parameters=3_504_872,
        build="h4hc.zoo.mobilenet:mobilenet_v2",
    ),
    ZooModel(
        name="mobilenet-v3-small",
        title="MobileNetV3-Small 1.0, 224",
        task="image classification, 1000 classes",
        source="Howard et al., MobileNetV3, arXiv:1905.02244; torchvision mobilenet_v3_small (num_params 2542856, "
        "_ops 0.057)",
        input_shape=(1, 3, 224, 224),
        macs=56_510_400,
        parameters=2_542_856,
        published_macs=57_000_000,
        published_macs_digit=1_000_000,
        published_parameters=2_542_856,
        build="h4hc.zoo.mobilenet:mobilenet_v3_small",
    ),
    ZooModel(
        name="resnet8",
        title="ResNet-8, CIFAR-10",
        task="image classification, 10 classes",
        source="MLPerf Tiny image_classification, resnet_v1_eembc (mlcommons/tiny), 16 filters",
        input_shape=(1, 3, 32, 32),
        macs=12_501_632,
        parameters=78_186,
        published_macs=12_501_632,
        published_macs_digit=1,
        published_parameters=78_186,
        build="h4hc.zoo.tiny:resnet8",
    ),
    ZooModel(
        name="unet",
        title="U-Net, 4 levels, 16 to 128 channels",
        task="semantic segmentation, 4 classes",
        source="our own width of Ronneberger et al., U-Net, arXiv:1505.04597 (padded convolutions, batch norm)",
        input_shape=(1, 3, 128, 128),
        macs=580_648_960,
        parameters=482_788,
        published_macs=None,
        published_macs_digit=1,
        published_parameters=None,
        build="h4hc.zoo.unet:unet",
    ),
    ZooModel(
        name="vit-tiny",
        title="ViT-Tiny (DeiT-Ti), patch 16, 224",
        task="image classification, 1000 classes",
        source="Touvron et al., DeiT, arXiv:2012.12877; timm model card deit_tiny_patch16_224.fb_in1k "
        "(5.7 M parameters, 1.3 GMAC)",
        input_shape=(1, 3, 224, 224),
        macs=1_253_683_200,
        parameters=5_717_416,
        published_macs=1_300_000_000,
        published_macs_digit=100_000_000,
        published_parameters=5_717_416,
        build="h4hc.zoo.vit:vit_tiny",
    ),
)

MODELS: dict[str, ZooModel] = {m.name: m for m in sorted(_ALL, key=lambda m: m.name)}
