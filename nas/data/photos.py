"""One's own images: anything that gives encoded pictures by number becomes a split, decoded with Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from h4hc.errors import MissingToolError, UserError
from nas.data.config import DataConfig
from nas.data.generate import Ints
from nas.data.order import AUGMENT, Order, rng, split
from nas.data.splits import Batch, Data

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN = {3: (0.485, 0.456, 0.406), 1: (0.45,)}  # of ImageNet, in 0 to 1
DEVIATION = {3: (0.229, 0.224, 0.225), 1: (0.225,)}
AREA, ASPECT = (0.2, 1.0), (3 / 4, 4 / 3)  # of the random crop of training
CENTRE = 0.875  # part of the shorter side that the crop of evaluation shows


class Pictures(Protocol):
    """Encoded pictures and their classes. Must pickle, for worker processes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of their numbers."""
        ...

    @property
    def labels(self) -> Ints:
        """Class of each picture [n]."""
        ...

    def read(self, index: int) -> bytes:
        """The file's content."""
        ...

    def name(self, index: int) -> str:
        """For errors."""
        ...


class PictureSplit:
    """Some of the pictures, as a Split. Augmentation is a function of seed, position and picture."""

    def __init__(self, pictures: Pictures, chosen: Ints, config: DataConfig, training: bool) -> None:
        """Raises UserError without any picture."""
        if len(chosen) == 0:
            raise UserError("the data set is empty", (str(config.path),), hint="give it more images")
        self._pictures, self._chosen, self._config = pictures, chosen, config
        self._augment = training and config.augment

    def __len__(self) -> int:
        return len(self._chosen)

    def stream(self, seed: int, batch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """As Split.stream."""
        order = Order(len(self), seed).batches(batch, start, rank, ranks)
        plan = ([(int(i), (seed, number) if self._augment else None) for i in index] for number, index in order)
        return self._loaded(plan)

    def batches(self, batch: int, limit: int | None = None) -> Iterator[Batch]:
        """As Split.batches."""
        order = rng(0).permutation(len(self))[:limit]
        return self._loaded([(int(i), None) for i in order[k : k + batch]] for k in range(0, len(order), batch))

    def __getitem__(self, key: tuple[int, tuple[int, int] | None]) -> tuple[Tensor, int]:
        position, augmentation = key
        index = int(self._chosen[position])
        generator = None if augmentation is None else rng(augmentation[0], AUGMENT, augmentation[1], position)
        image = decode(self._pictures, index, self._config, generator)
        return image, int(self._pictures.labels[index])

    def _loaded(self, plan: Any) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]
            batch_sampler=plan if isinstance(plan, list) else _Once(plan),
            num_workers=self._config.workers,
            collate_fn=_collated,
            pin_memory=torch.cuda.is_available(),
        )
        yield from loader


def _collated(items: list[tuple[Tensor, int]]) -> Batch:
    """A batch, channels-last before it is pinned: a copy made afterwards would be pageable, and slow to send."""
    images = torch.stack([image for image, _ in items]).contiguous(memory_format=torch.channels_last)
    return images, torch.tensor([label for _, label in items])


class _Once:
    """An iterable over a generator, as DataLoader wants its batch sampler."""

    def __init__(self, plan: Iterator[Any]) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[Any]:
        return self._plan


def decode(pictures: Pictures, index: int, config: DataConfig, generator: np.random.Generator | None) -> Tensor:
    """One picture as float32 [C, H, W]: random crop and flip with a generator, the middle without.

    Raises UserError, naming the file, where it is no picture.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingToolError("Pillow is not installed", hint="pip install 'h4hc[images]'") from error
    try:
        with Image.open(io.BytesIO(pictures.read(index))) as file:
            picture = _eight_bits(file).convert("RGB" if config.channels == 3 else "L")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        hint = "mend or remove the file"
        raise UserError("a picture cannot be read", (pictures.name(index),), str(error), hint) from error
    box = _middle(picture) if generator is None else _random_box(picture, generator)
    side = (config.resolution, config.resolution)
    pixels = np.asarray(picture.resize(side, Image.Resampling.BICUBIC, box=box), np.float32) / 255
    if generator is not None and generator.random() < 0.5:
        pixels = pixels[:, ::-1]
    pixels = pixels.reshape(*side, config.channels)
    mean, deviation = (np.array(table[config.channels], np.float32) for table in (MEAN, DEVIATION))
    return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / deviation).transpose(2, 0, 1)))


def _eight_bits(picture: Image) -> Image:
    """Grey pictures of 16 bits scaled to 8: Pillow's own conversion cuts off all above 255, which leaves them white."""
    if picture.mode.startswith("I;16"):
        from PIL import Image

        return Image.fromarray((np.asarray(picture).astype(np.float32) / 257).round().astype(np.uint8))
    if picture.mode in {"I", "F"}:
        raise ValueError(f"pixels of mode {picture.mode!r} have no known range: save it with 8 or 16 bits")
    return picture


def _middle(picture: Image) -> tuple[float, float, float, float]:
    width, height = picture.size
    side = CENTRE * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _random_box(picture: Image, generator: np.random.Generator) -> tuple[float, float, float, float]:
    """A box of random area and aspect, cut to the picture."""
    width, height = picture.size
    area = generator.uniform(*AREA) * width * height
    aspect = np.exp(generator.uniform(*np.log(ASPECT)))
    w, h = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
    return float(left), float(top), float(left + w), float(top + h)


def picture_data(config: DataConfig, parts: dict[str, Pictures]) -> Data:
    """A data set from `train`, and `val` and `test` where there are any; what is missing is held out of train.

    With `val` alone, as in ImageNet, that is the test set, and validation is held out of train: search must not see
    what is reported. Raises UserError where the parts have other classes or one is empty.
    """
    classes = parts["train"].classes
    other = [name for name, pictures in parts.items() if pictures.classes != classes]
    if other:
        raise UserError("the parts of the data differ in their classes", tuple(other), f"train has {len(classes)}")
    if "val" in parts and "test" not in parts:
        parts["test"] = parts.pop("val")
    missing = [name for name in ("val", "test") if name not in parts]
    shares = tuple({"val": config.val_share, "test": config.test_share}[name] for name in missing)
    *held, rest = split(parts["train"].labels, shares, config.seed)
    splits = {"train": PictureSplit(parts["train"], rest, config, True)}
    splits |= {n: PictureSplit(parts["train"], chosen, config, False) for n, chosen in zip(missing, held, strict=True)}
    for name in {"val", "test"} - set(missing):
        every = np.arange(len(parts[name].labels))
        splits[name] = PictureSplit(parts[name], every, config, False)
    return Data(config.name, len(classes), config.channels, config.resolution, **splits)
