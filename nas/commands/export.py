"""`h4hc nas export`: networks of a trained run as files that need neither supernet nor torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from h4hc.api import OutputFolder, check_output
from h4hc.errors import NumericsError, UserError
from nas import export as exporting
from nas.commands.search import SECTIONS, Network, read_networks
from nas.config import RunConfig
from nas.heads import segmentation_onnx, train_segmentation
from nas.runs import EXPORT, SEARCH, Run, open_run
from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.supernet.static import StaticNet
from nas.yaml_file import read_text

Tree = dict[str, Any]
Head = Literal["none", "segmentation"]
ROLES = {
    "arch.json": "the architecture", "weights.safetensors": "its weights", "model.onnx": "the network as ONNX",
    "report.json": "accuracy, costs, equality", "segmentation.onnx": "the network with a segmentation head",
    "segmentation.safetensors": "its weights",
}  # fmt: skip


def export(
    folder: Path,
    archs: Sequence[Path],
    found: Path | None,
    out: Path | None,
    sets: tuple[str, ...],
    head: Head,
    force: bool,
    say: Callable[[str], None],
) -> Tree:
    """Write networks of the run in `folder` into `out` (RUN/export), all of them or none.

    archs: their arch.json files; without any, `export.top` of the front in the search folder `found` (RUN/search).
    Raises what open_run, Run.trained and exporting.export raise; UserError where `out` may not be replaced.
    """
    run = open_run(folder, sets, SECTIONS)
    out = out or folder / EXPORT
    check_output(out, force=force, keep=(folder / "run.yaml", *archs))
    asked = [_read(path, run.config.of_space) for path in archs]
    if not asked:
        asked = [network.arch for network in chosen(read_networks(found or folder / SEARCH), run.config.export.top)]
    networks = exported(run, asked, head, say)
    with OutputFolder(out, {"made_by": "h4hc nas export", "run": run.folder.name}, force=force) as files:
        for number, (_, parts) in enumerate(networks):
            for name, data in parts.items():
                files.add(f"{number:02d}/{name}", data, ROLES[name])
    target = run.config.hardware.target
    return {"folder": str(out), "target": target, "networks": [report for report, _ in networks]}


def _read(path: Path, space: SearchSpace) -> Arch:
    """Raises UserError, naming the file, where it is no architecture or none of the space."""
    try:
        arch = Arch.from_json(read_text(path))
        space.genome(arch)
        return arch
    except UserError as error:
        raise UserError.of(tuple(replace(p, where=p.where or (str(path),)) for p in error.problems)) from error


def exported(
    run: Run, archs: Sequence[Arch], head: Head, say: Callable[[str], None]
) -> list[tuple[Tree, dict[str, bytes]]]:
    """Report and files of each network."""
    config, data = run.config, run.data()
    net = run.trained(data.classes)
    found = []
    for number, arch in enumerate(archs):
        made = exporting.export(net, arch, data, config.calibration, config.hardware, config.export.targets)
        report, files = made.report, made.files
        say(f"network {number}: accuracy {100 * report['accuracy']['val']:.1f} %, {report['macs']} MACs")
        if head == "segmentation":
            report, files = with_segmentation(made, config)
            say(f"network {number}: segmentation, mean IoU {100 * report['segmentation']['val']['mean_iou']:.1f} %")
        found.append((report, files))
    return found


def with_segmentation(made: exporting.Exported, config: RunConfig) -> tuple[Tree, dict[str, bytes]]:
    """The report and files with those of a segmentation net on this backbone."""
    net, figures = train_segmentation(made.net, config.export.segmentation, config.seed)
    model = segmentation_onnx(net)
    data = model.SerializeToString()
    figures["static_onnxruntime"] = _parity(net, made.net, model)
    figures["devices"] = {t: exporting.plan(data, t, config.hardware) for t in config.export.targets}
    report = made.report | {"segmentation": figures}
    more = {
        "segmentation.onnx": data,
        "segmentation.safetensors": exporting.weights(net, made.net.arch),
        "report.json": exporting.as_json(report),
    }
    return report, made.files | more


def _parity(net: Any, backbone: StaticNet, model: onnx.ModelProto) -> float:
    """Largest difference of plain net and ONNX on random images. Raises NumericsError."""
    import torch

    side, channels = backbone.arch.resolution, backbone.spec.channels_in
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((8, channels, side, side)).astype(np.float32))
    with torch.no_grad():
        plain = net(images).numpy()
    apart = float(np.abs(plain - exporting.run_onnx(model, images.numpy())).max())
    allowed = exporting.PARITY * max(1.0, float(np.abs(plain).max()))
    if not apart <= allowed:
        why = f"logits differ by {apart:.3g}, {allowed:.3g} is allowed"
        raise NumericsError("segmentation net and ONNX do not agree", why=why, hint="this is a bug of h4hc")
    return apart


def chosen(networks: Sequence[Network], count: int) -> list[Network]:
    """Networks of a front at even steps, first and last included."""
    steps = np.linspace(0, len(networks) - 1, min(count, len(networks))).round().astype(int)
    return [networks[i] for i in dict.fromkeys(steps.tolist())]
