"""One's own images: folders and tar shards, against Pillow and the webdataset package."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.data.photos import DEVIATION, MEAN
from nas.data.registry import load_data

CLASSES = 3


def _png(label: int, number: int) -> bytes:
    """A grey picture that tells its class and number."""
    file = io.BytesIO()
    Image.new("RGB", (20 + number, 16), (40 * label, 10 * number, 7)).save(file, "PNG")
    return file.getvalue()


def _folder(root: Path, count: int = 10) -> Path:
    for label, number in itertools.product(range(CLASSES), range(count)):
        path = root / f"class_{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(label, number))
    return root


def _shards(root: Path, name: str, count: int) -> None:
    root.mkdir(exist_ok=True)
    with webdataset.ShardWriter(str(root / f"{name}-%04d.tar"), maxcount=7, verbose=0) as writer:
        for label, number in itertools.product(range(CLASSES), range(count)):
            writer.write({"__key__": f"{label}_{number}", "png": _png(label, number), "cls": label})


def _config(name: str, path: Path, **keys: object) -> DataConfig:
    return DataConfig.model_validate({"name": name, "path": str(path), "resolution": 8} | keys)


def test_pictures_come_as_pillow_shows_them_with_their_class(tmp_path: Path) -> None:
    data = load_data(_config("imagefolder", _folder(tmp_path)))
    assert (data.classes, data.channels, data.resolution) == (CLASSES, 3, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (24, 3, 3)
    images, labels = next(data.val.batches(3))
    red = images[:, 0].mean((1, 2)) * DEVIATION[3][0] + MEAN[3][0]
    assert torch.allclose(red * 255, labels * 40.0, atol=0.1)
    assert sorted(labels.tolist()) == [0, 1, 2]


def test_folder_parts_are_used_and_val_alone_is_the_test_set(tmp_path: Path) -> None:
    _folder(tmp_path / "train")
    _folder(tmp_path / "val", 4)
    data = load_data(_config("imagefolder", tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (27, 3, 12)
    _folder(tmp_path / "test", 2)
    data = load_data(_config("imagefolder", tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 12, 6)


def test_augmentation_depends_on_position_alone_also_with_workers(tmp_path: Path) -> None:
    _folder(tmp_path)
    alone = load_data(_config("imagefolder", tmp_path, channels=1)).train
    helped = load_data(_config("imagefolder", tmp_path, channels=1, workers=1)).train
    whole = list(itertools.islice(alone.stream(1, 16), 4))
    for (images, labels), (other, others) in zip(whole[2:], helped.stream(1, 16, start=2), strict=False):
        assert torch.equal(images, other)
        assert torch.equal(labels, others)
    plain = load_data(_config("imagefolder", tmp_path, channels=1, augment=False)).train
    assert torch.equal(next(plain.stream(1, 16))[1], whole[0][1])
    assert len(torch.unique(whole[0][0].flatten(1), dim=0)) > 8


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the webdataset reader
def test_shards_give_what_the_webdataset_package_reads(tmp_path: Path) -> None:
    _shards(tmp_path, "train", 8)
    _shards(tmp_path, "test", 2)
    data = load_data(_config("webdataset", tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (21, 3, 6)
    urls = [str(path) for path in sorted(tmp_path.glob("test*.tar"))]
    reference = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb").to_tuple("png", "cls")
    wanted = sorted((int(label), image[0, 0].round(3).tolist()) for image, label in reference)
    images, labels = next(data.test.batches(6))
    colours = images[:, :, 4, 4] * torch.tensor(DEVIATION[3]) + torch.tensor(MEAN[3])
    found = sorted(zip(labels.tolist(), np.round(colours.numpy().astype(float), 3).tolist(), strict=True))
    assert [label for label, _ in found] == [label for label, _ in wanted]
    assert np.allclose([colour for _, colour in found], [colour for _, colour in wanted], atol=2e-3)


def test_faulty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_data(_config("imagefolder", tmp_path / "none"))
    with pytest.raises(UserError, match="is empty"):
        load_data(_config("imagefolder", tmp_path))
    _folder(tmp_path)
    (tmp_path / "class_9").mkdir()
    with pytest.raises(UserError, match="class_9"):
        load_data(_config("imagefolder", tmp_path))
    (tmp_path / "class_9").rmdir()
    for file in (tmp_path / "class_0").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"class_0.*png"):
        list(load_data(_config("imagefolder", tmp_path)).train.batches(64))
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="no training images"):
        load_data(_config("imagefolder", tmp_path))


def test_faulty_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training shards"):
        load_data(_config("webdataset", tmp_path))
    shard = tmp_path / "train-0000.tar"
    shard.write_bytes(b"no tar" * 200)
    with pytest.raises(UserError, match="cannot be read"):
        load_data(_config("webdataset", tmp_path))
    with webdataset.TarWriter(str(shard)) as writer:
        writer.write({"__key__": "a", "png": _png(0, 0)})
    with pytest.raises(UserError, match="without the other"):
        load_data(_config("webdataset", tmp_path))
    with webdataset.TarWriter(str(shard)) as writer:
        writer.write({"__key__": "a", "png": _png(0, 0), "cls": b"cat"})
    with pytest.raises(UserError, match="no number"):
        load_data(_config("webdataset", tmp_path))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_greys(tmp_path: Path, channels: int) -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for name in ("a/0", "a/1", "a/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(tmp_path / f"{name}.png")
    data = load_data(_config("imagefolder", tmp_path, channels=channels))
    image = next(data.val.batches(1))[0][0, 0] * DEVIATION[channels][0] + MEAN[channels][0]
    inner = Image.fromarray((ramp / 257).round().astype(np.uint8)).resize(
        (8, 8), Image.Resampling.BICUBIC, box=(0.5, 0.5, 7.5, 7.5)
    )
    assert torch.allclose(image, torch.from_numpy(np.asarray(inner, np.float32) / 255), atol=1e-5)


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a" / f"{number}.tif")
    with pytest.raises(UserError, match=r"(?s)cannot be read.*tif") as caught:
        next(load_data(_config("imagefolder", tmp_path, channels=1)).val.batches(1))
    assert "8 or 16 bits" in str(caught.value)


def test_a_batch_is_in_its_last_format_when_it_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loader hands out, pinned where there is a GPU, is what the stream yields: no copy in between."""
    made: list[int] = []

    class Spy(torch.utils.data.DataLoader):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            for images, labels in super().__iter__():
                made.append(images.data_ptr())
                yield images, labels

    monkeypatch.setattr(torch.utils.data, "DataLoader", Spy)
    data = load_data(_config("imagefolder", _folder(tmp_path)))
    images, labels = next(data.train.stream(0, 6))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64
    assert images.data_ptr() == made[0]
