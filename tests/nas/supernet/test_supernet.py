"""The supernet: gradients, calibration, seeds, groups, regularisation, elastic resolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.space.space import SearchSpace
from nas.supernet.layers import cut
from nas.supernet.mode import Mode
from nas.supernet.supernet import Supernet, calibrate, group_of, resize
from tests.nas.supernet.cases import CLASSES, archs, calibrated, images, random_supernet


def test_cut_takes_first_channels_and_the_centre_of_kernels() -> None:
    weight = torch.arange(4 * 3 * 5 * 5).reshape(4, 3, 5, 5)
    assert torch.equal(cut(weight, (2, 1, 3, 3)), weight[:2, :1, 1:4, 1:4])
    assert cut(weight, weight.shape) is weight
    assert cut(weight, (2, 1, 3, 3)).data_ptr() == weight[:, :, 1:, 1:].data_ptr()  # a view


def test_gradients_are_those_of_the_sliced_network() -> None:
    """With statistics of the batch on both sides; what the network does not use gets none, or zero."""
    net = random_supernet("tiny")
    for arch in archs(net.space, 4):
        x, labels = images(arch, net.space, 4), torch.tensor([1, 2, 3, 4])
        plain = net.slice(arch).train()
        net.zero_grad()
        F.cross_entropy(net(x, arch), labels).backward()
        F.cross_entropy(plain(x), labels).backward()
        shared = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        own = dict(plain.named_parameters())
        assert set(shared) == set(own)
        for name, weight in own.items():
            grad, mine = shared[name], weight.grad
            assert mine is not None
            if weight.ndim < grad.ndim:
                grad = grad[arch.stages[int(name.split(".")[1])].attention_depth - 1]
            torch.testing.assert_close(cut(grad, mine.shape), mine, rtol=1e-3, atol=1e-5)
            assert shared[name].abs().sum().item() == pytest.approx(cut(grad, mine.shape).abs().sum().item(), rel=1e-4)


def test_calibration_is_the_cumulative_average_of_torch() -> None:
    net = random_supernet("tiny")
    for arch in archs(net.space, 2):
        batches = [images(arch, net.space, 8, seed) for seed in range(3)]
        plain = net.slice(arch)
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # cumulative average
        with torch.no_grad():
            for batch in batches:
                plain.train()(batch)
            x = images(arch, net.space, 4, 9)
            torch.testing.assert_close(
                net(x, arch, calibrate(net, arch, batches)), plain.eval()(x), rtol=1e-4, atol=1e-5
            )


def test_calibration_leaves_the_supernet_as_it_was() -> None:
    net = random_supernet("tiny")
    least, largest = archs(net.space, 0)
    stats, x = calibrated(net, least), images(least, net.space, 2)
    with torch.no_grad():
        before, weights = net(x, least, stats), {name: t.clone() for name, t in net.state_dict().items()}
        calibrate(net, largest, [x])
        assert torch.equal(net(x, least, stats), before)
    assert all(torch.equal(t, weights[name]) for name, t in net.state_dict().items())
    with pytest.raises(ValueError, match="a batch of images"):
        calibrate(net, least, [])


def test_weights_depend_on_the_seed_alone() -> None:
    space = SearchSpace.load("tiny")
    state = torch.get_rng_state()
    nets = [Supernet(space, CLASSES, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(nets[0].head.conv.weight, nets[1].head.conv.weight)
    assert not torch.equal(nets[0].head.conv.weight, nets[2].head.conv.weight)


def test_parameters_are_grouped_by_type_of_block() -> None:
    net = random_supernet("tiny")
    groups = net.parameter_groups()
    assert sum(len(group) for group in groups.values()) == len(list(net.parameters()))
    arch = net.space.arch(net.space.maximum({"*.attention_depth": [0]}))
    net(images(arch, net.space, 2), arch).sum().backward()
    assert all(p.grad is None for p in groups["attention"])
    assert all(p.grad is not None for p in groups["conv"] + groups["shared"])
    assert group_of("stages.0.conv.0.types.mbconv.project.weight") == "conv"
    free = net.without_decay()
    assert "stages.1.attention.0.scale.weight" in free
    assert "stages.1.attention.0.query.bias" in free
    assert "stages.1.attention.0.query.weight" not in free


def test_layer_scale_is_one_set_for_each_depth() -> None:
    net = random_supernet("tiny")
    net.set_layer_scale(0.5)
    with torch.no_grad():
        net.stages[2].attention[0].scale.weight[1].zero_()  # type: ignore[union-attr, index]
    one, two = (net.space.arch(net.space.maximum({"s3.attention_depth": [depth]})) for depth in (1, 2))
    assert (net.slice(one).stages[2].attention[0].scale.weight == 0.5).all()  # type: ignore[index, union-attr]
    assert (net.slice(two).stages[2].attention[0].scale.weight == 0).all()  # type: ignore[index, union-attr]


def test_images_of_another_size_are_brought_to_the_resolution() -> None:
    net = random_supernet("tiny")
    arch = archs(net.space, 0)[0]
    stats, x = calibrated(net, arch), images(arch, net.space, 2)
    large = F.interpolate(x, (40, 40), mode="bicubic")
    with torch.no_grad():
        assert torch.equal(net(large, arch, stats), net.slice(arch, stats)(resize(large, arch.resolution)))
    assert resize(x, arch.resolution) is x


def test_dropout_and_drop_path_act_only_when_asked() -> None:
    net = random_supernet("tiny")
    arch = archs(net.space, 0)[1]
    stats, x = calibrated(net, arch), images(arch, net.space, 2)
    with torch.no_grad():
        plain = net(x, arch, stats)
        assert torch.equal(net(x, arch, mode=Mode(stats)), plain)
        for mode in (Mode(stats, dropout=0.5), Mode(stats, drop_path=0.5)):
            torch.manual_seed(0)
            first = net(x, arch, mode=mode)
            assert not torch.equal(first, plain)
            torch.manual_seed(0)
            assert torch.equal(net(x, arch, mode=mode), first)


def test_drop_path_keeps_the_mean_of_a_branch() -> None:
    torch.manual_seed(0)
    kept = Mode(drop_path=0.4).keep(torch.ones(20000, 1, 1, 1), 0.5)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)


def test_features_are_the_maps_behind_the_stages() -> None:
    net = random_supernet("tiny")
    arch = archs(net.space, 0)[1]
    maps = net.slice(arch).features(images(arch, net.space))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 12, 12), (32, 6, 6), (56, 3, 3)]
