"""Names of the data sets; the code of one is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from nas.data.config import DataConfig
from nas.data.splits import Data

DATASETS: dict[str, str] = {
    "clutter": "nas.data.digits:clutter",
    "digits": "nas.data.digits:digits",
    "glyphs": "nas.data.glyphs:glyphs",
    "imagefolder": "nas.data.imagefolder:imagefolder",
    "relations": "nas.data.relations:relations",
    "webdataset": "nas.data.webdataset:webdataset",
}


def load_data(config: DataConfig) -> Data:
    """The data set `config` names. Raises UserError where it has no images or its files are wrong."""
    module, function = DATASETS[config.name].split(":")
    return cast(Data, getattr(import_module(module), function)(config))
