"""Generated sets: bytes by seed, splits apart, all classes, something to learn."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from h4hc.errors import UserError
from nas.data import digits as digits_module
from nas.data import relations as relations_module
from nas.data.config import OWN_DATA, DataConfig, SetName
from nas.data.registry import DATASETS, load_data
from nas.data.splits import SearchData, TensorSplit

MADE: tuple[SetName, ...] = ("clutter", "digits", "glyphs", "relations")
SHA256: dict[SetName, list[str]] = {
    "clutter": ["222c03d4a5d55680", "b01fd1d7e10be85b", "16225188c705816d"],
    "digits": ["2bd81ad914513ccd", "80f9101e5616d067", "fa0be84aa8f6a639"],
    "glyphs": ["ad5c73c2c8287bd2", "6418ee82f268360b", "64489afcf64c4656"],
    "relations": ["a37a3d778f4e0157", "97b66479a084e1d8", "2355f17f004b7b7e"],
}


def _small(name: SetName, seed: int = 0) -> DataConfig:
    return DataConfig(name=name, seed=seed, train=300, val=200, test=100)


def _hash(split: Any) -> str:
    tensors = (split.images, split.labels)
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()[:16]


def test_the_registry_knows_every_name_of_the_configuration() -> None:
    assert sorted(get_args(SetName)) == sorted(DATASETS)
    assert set(MADE) | OWN_DATA == set(DATASETS)


@pytest.mark.parametrize("name", MADE)
def test_the_same_seed_gives_the_same_bytes_anywhere(name: SetName) -> None:
    data = load_data(_small(name))
    assert [_hash(split) for split in (data.train, data.val, data.test)] == SHA256[name]


@pytest.mark.parametrize("name", MADE)
def test_seeds_differ_and_splits_share_no_image(name: SetName) -> None:
    data, other = load_data(_small(name)), load_data(_small(name, 1))
    assert isinstance(data.train, TensorSplit)
    assert _hash(data.train) != _hash(other.train)
    rows = [{image.numpy().tobytes() for image in split.images} for split in (data.train, data.val, data.test)]  # type: ignore[attr-defined]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


@pytest.mark.parametrize("name", MADE)
def test_shapes_scale_and_classes(name: SetName) -> None:
    data = load_data(_small(name))
    images, labels = data.train.images, data.train.labels  # type: ignore[attr-defined]
    assert images.shape[1:] == (data.channels, data.resolution, data.resolution) == (1, 24, 24)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert float(images.mean()) == pytest.approx(0, abs=1e-3)
    assert float(images.std()) == pytest.approx(1, abs=1e-2)
    counts = torch.bincount(labels, minlength=data.classes)
    assert len(counts) == data.classes == (6 if name == "relations" else 10)
    assert int(counts.min()) > 0


@pytest.mark.parametrize("name", ["clutter", "glyphs", "relations"])
def test_more_images_begin_with_the_same(name: SetName) -> None:
    few, many = load_data(_small(name)), load_data(_small(name).model_copy(update={"test": 1100}))
    assert len(many.test) == 1100
    assert torch.equal(few.test.labels, many.test.labels[:100])  # type: ignore[attr-defined]


def test_no_digit_serves_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def spy(config: DataConfig, draws: Any, classes: int) -> None:
        seen.extend(draw.args[0] for draw in draws)

    monkeypatch.setattr(digits_module, "generated", spy)
    load_data(_small("clutter"))
    digits = [{picture.tobytes() for picture in material} for material in seen]
    assert sum(len(material) for material in seen) == 1797
    assert [len(a & b) for a, b in itertools.combinations(digits, 2)] == [0, 0, 0]


def test_search_cannot_reach_the_test_images() -> None:
    data = load_data(_small("digits"))
    for_search = data.for_search()
    assert isinstance(for_search, SearchData)
    assert not hasattr(for_search, "test")
    assert for_search.val is data.val


def test_batches_show_every_image_once_in_one_order() -> None:
    split = load_data(_small("glyphs")).val
    twice = [torch.cat([labels for _, labels in split.batches(64)]) for _ in range(2)]
    assert torch.equal(*twice)
    assert sorted(twice[0].tolist()) == sorted(split.labels.tolist())  # type: ignore[attr-defined]
    assert [len(labels) for _, labels in split.batches(64, 100)] == [64, 36]


def test_a_stream_is_a_function_of_seed_and_start() -> None:
    split = load_data(_small("glyphs")).train
    whole = list(itertools.islice(split.stream(5, 64), 6))
    later = next(split.stream(5, 64, start=5))
    assert torch.equal(whole[5][0], later[0])
    halves = [next(split.stream(5, 64, 5, rank, 2))[1] for rank in range(2)]
    assert sorted(torch.cat(halves).tolist()) == sorted(later[1].tolist())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "clutter", "trian": 5}, "Extra inputs"),
        ({"name": "mnist"}, "Input should be"),
        ({"name": "clutter", "train": 0}, "greater than 0"),
        ({"name": "clutter", "path": "x"}, "takes no `path`"),
        ({"name": "imagefolder"}, "needs `path`"),
    ],
)
def test_wrong_configurations_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig(**keys)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        TensorSplit(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))


def test_relations_are_between_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the ring and the squares back from the pixels of noiseless pictures and count."""
    monkeypatch.setattr(relations_module, "NOISE", 0.0)
    generator = np.random.default_rng(0)
    pictures, labels = relations_module._draw(generator, 200, 24)
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        cells = picture.reshape(6, 4, 6, 4).transpose(0, 2, 1, 3).reshape(36, 4, 4)
        used = cells[cells[:, 0, 0] > 0]
        ring = used[used[:, 1, 1] == 0]
        squares = used[used[:, 1, 1] > 0]
        assert (len(ring), len(squares)) == (1, relations_module.ITEMS)
        assert int((squares[:, 0, 0] > ring[0, 0, 0]).sum()) == label
        assert np.abs(squares[:, 0, 0] - ring[0, 0, 0]).min() > 0.99 * 0.7 * relations_module.GAP


def test_relations_show_their_ring_or_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six lit cells, the ring among them, at the least resolution; below it the ring would be all hole."""
    monkeypatch.setattr(relations_module, "NOISE", 0.0)
    least = relations_module.LEAST
    pictures, _ = relations_module._draw(np.random.default_rng(0), 50, least)
    cells = pictures.reshape(50, 6, least // 6, 6, least // 6).max((2, 4))
    assert ((cells > 0).sum((1, 2)) == relations_module.ITEMS + 1).all()
    with pytest.raises(UserError, match="too small"):
        load_data(DataConfig(name="relations", resolution=least - 1))
