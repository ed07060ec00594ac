"""The tables that name what h4hc is made of: passes, pipelines, target families, zoo models, the search.

Explicit and lazy: a name maps to "module:attribute", imported when asked for. A test holds the keys
against the files. This is the only place through which `h4hc` reaches `passes`, `targets` and `nas`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from h4hc.errors import MissingToolError, TargetError, UserError

if TYPE_CHECKING:
    from h4hc.passbase import Pass

PASSES: dict[str, str] = {
    "absorb-qdq": "passes.absorb_qdq:AbsorbQdq",
    "drop-no-ops": "passes.drop_no_ops:DropNoOps",
    "fold-batch-norm": "passes.fold_batch_norm:FoldBatchNorm",
    "fold-constants": "passes.fold_constants:FoldConstants",
    "fuse-activation": "passes.fuse_activation:FuseActivation",
    "fuse-attention": "passes.fuse_attention:FuseAttention",
    "fuse-conv-bias": "passes.fuse_conv_bias:FuseConvBias",
    "fuse-fully-connected": "passes.fuse_fully_connected:FuseFullyConnected",
    "fuse-layer-norm": "passes.fuse_layer_norm:FuseLayerNorm",
    "infer-shapes": "passes.infer_shapes:InferShapes",
    "replace-layout": "passes.replace_layout:ReplaceLayout",
    "split-functions": "passes.split_functions:SplitFunctions",
}

PIPELINES = "passes.pipelines:PIPELINES"  # name -> pipeline text

TARGET_FAMILIES: dict[str, str] = {
    "cim": "targets.cim.device:load_device",
    "cortex_m": "targets.cortex_m.device:load_device",
    "ethos_u": "targets.ethos_u.device:load_device",
}

VENDOR_COSTS: dict[str, str] = {  # family -> what answers with the figures of the vendor's own tool, an optional extra
    "ethos_u": "targets.ethos_u.vendor.costs:vendor_costs",
}

NAS: dict[str, str] = {  # command -> what does it, in the optional extra
    "bench": "nas.commands.bench:bench",
    "conflict": "nas.commands.conflict:conflict",
    "demo": "nas.commands.demo:demo",
    "export": "nas.commands.export:export",
    "progress": "nas.commands.progress:bars",
    "search": "nas.commands.search:search",
    "train": "nas.commands.train:train",
}

NAS_NEEDS = ("pymoo", "safetensors", "sklearn", "torch", "yaml")  # modules of the extra `nas`

ZOO = "h4hc.zoo.models:MODELS"  # name -> ZooModel


def resolve(path: str) -> Any:
    """Import `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def pass_class(name: str) -> type[Pass]:
    """The pass called `name`. Raises UserError naming the known ones."""
    if name not in PASSES:
        raise UserError(
            f"there is no pass {name!r}", why=f"known passes: {', '.join(sorted(PASSES))}", hint="see `h4hc passes`"
        )
    cls: type[Pass] = resolve(PASSES[name])
    return cls


def pipelines() -> dict[str, str]:
    """Named pass lists: name -> text as `--passes` takes it."""
    table: dict[str, str] = resolve(PIPELINES)
    return table


def load_device(family: str, name: str, numbers: dict[str, Any], where: str) -> Any:
    """Build the device `name` of a target family out of its validated numbers. Raises TargetError."""
    if family not in TARGET_FAMILIES:
        raise TargetError(
            f"there is no target family {family!r}", where=(where,), why=f"known: {', '.join(sorted(TARGET_FAMILIES))}"
        )
    return resolve(TARGET_FAMILIES[family])(name, numbers, where)


def nas(name: str) -> Any:
    """A function of the search. Raises MissingToolError, naming all that is missing, without the extra `nas`."""
    missing = [module for module in NAS_NEEDS if importlib.util.find_spec(module) is None]
    if missing:
        why = f"not installed: {', '.join(missing)}"
        raise MissingToolError("`h4hc nas` needs an optional part of h4hc", why=why, hint="pip install 'h4hc[nas]'")
    return resolve(NAS[name])
