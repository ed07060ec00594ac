"""Genomes, architectures and one-hot rows of the presets, and of a small space that is counted out."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.errors import UserError
from nas.space.arch import Arch
from nas.space.space import Allowed, SearchSpace, presets
from nas.space.spec import SpaceSpec
from nas.yaml_file import parse_model

PRESETS = presets()
SMALL = """
name: small
resolution: [16, 24]
stem: {width: [8]}
stages:
  - name: a
    width: [8]
    block: [mbconv, conv]
    conv_depth: [0, 1, 2]
    kernel: [3, 5]
    expand: [2, 3]
    attention: {depth: [0, 1], head_dim: 8, mlp_ratio: [1, 2]}
  - {name: b, width: [8, 16], stride: 2, conv_depth: [1, 2], kernel: [3, 5], expand: [2, 3]}
head: {width: [16, 32]}
"""
SPACES = {name: SearchSpace.load(name) for name in PRESETS}
SPACES["small"] = SearchSpace(parse_model(SMALL, SpaceSpec, "small"))
NAMES = sorted(SPACES)


def genomes(name: str) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, len(gene.values) - 1) for gene in SPACES[name].genes))


@given(data=st.data(), name=st.sampled_from(NAMES))
@settings(max_examples=200, deadline=None)
def test_round_trips(data: st.DataObject, name: str) -> None:
    space, genome = SPACES[name], data.draw(genomes(name))
    arch = space.arch(genome)
    canonical = space.genome(arch)
    assert canonical == tuple(space.canonical(np.array([genome]))[0].tolist())
    assert space.arch(canonical) == arch
    assert hash(space.arch(canonical)) == hash(arch)
    assert Arch.from_json(json.dumps(arch.to_json())) == arch
    rows = np.array([genome, canonical])
    hot = space.one_hot(rows)
    assert hot.sum() == 2 * len(space.genes)
    assert hot.shape == (2, sum(len(gene.values) for gene in space.genes))
    assert (space.from_one_hot(hot) == rows).all()


@given(data=st.data(), name=st.sampled_from(NAMES))
@settings(max_examples=100, deadline=None)
def test_canonical_genomes_are_stable_and_tell_architectures_apart(data: st.DataObject, name: str) -> None:
    space = SPACES[name]
    rows = np.array([data.draw(genomes(name)), data.draw(genomes(name))])
    once = space.canonical(rows)
    assert (space.canonical(once) == once).all()
    assert (space.arch(rows[0]) == space.arch(rows[1])) == bool((once[0] == once[1]).all())


def test_size_is_the_number_of_different_architectures() -> None:
    space = SPACES["small"]
    every = np.array(list(itertools.product(*(range(len(gene.values)) for gene in space.genes))))
    found = {space.arch(row) for row in space.canonical(every)}
    assert len(found) == space.size() < len(every)


@pytest.mark.parametrize(("name", "published"), [("alphanet", 4.4e11), ("nasvit", 4.8e10)])
def test_sizes_of_published_spaces(name: str, published: float) -> None:
    assert SPACES[name].size() == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_every_choice_is_reached(name: str) -> None:
    """In architectures, not only in genomes: a value that no architecture shows would be no choice."""
    space = SPACES[name]
    for gene in space.genes:
        part, _, key = gene.name.partition(".")
        for value in gene.values:
            drawn = space.sample(np.random.default_rng(0), 64, {gene.name: [value]})
            assert value in {shown_value(space, space.arch(row), part, key) for row in drawn}, gene.name


def shown_value(space: SearchSpace, arch: Arch, part: str, key: str) -> Any:
    if part in {"resolution", "stem", "head"}:
        return getattr(arch, part)
    index = [stage.name for stage in space.spec.stages].index(part)
    return getattr(arch.stages[index], key)


@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_seeded_and_uniform(name: str) -> None:
    space = SPACES[name]
    rows = space.sample(np.random.default_rng(3), 2000)
    assert (rows == space.sample(np.random.default_rng(3), 2000)).all()
    assert (space.canonical(rows) == rows).all()
    for field in ("resolution", "head.width", *(f"{stage.name}.width" for stage in space.spec.stages)):
        if field in space.position:
            share = np.bincount(rows[:, space.position[field]]) / len(rows)
            assert share == pytest.approx(1 / len(space.fields[field]), abs=0.06)


def test_restrictions_hold_in_samples_and_corners() -> None:
    space = SPACES["h4h"]
    conv_only: Allowed = {"*.attention_depth": [0], "s4.block": ["conv"]}
    for row in [*space.sample(np.random.default_rng(0), 50, conv_only), space.maximum(conv_only)]:
        arch = space.arch(row)
        assert all(stage.attention_depth == 0 for stage in arch.stages)
        assert arch.stages[3].block == "conv"
    assert any(stage.attention_depth for stage in space.arch(space.maximum()).stages)
    assert all(stage.attention_depth == 0 for stage in space.arch(space.minimum()).stages)


def test_h4h_searches_all_three_types_of_block_in_one_stage() -> None:
    space = SPACES["h4h"]
    late = {name: space.fields[name] for name in ("s5.block", "s5.attention_depth")}
    assert late == {"s5.block": ("mbconv", "conv"), "s5.attention_depth": (0, 1, 2, 3, 4)}
    rows = space.sample(np.random.default_rng(0), 100, {"s5.attention_depth": [2]})
    assert {space.arch(row).stages[4].block for row in rows} == {"mbconv", "conv"}


def test_wrong_restrictions_are_all_named() -> None:
    with pytest.raises(UserError) as caught:
        SPACES["small"].sample(
            np.random.default_rng(0), 1, {"c.*": [1], "a.kernel": [7], "*.conv_depth": [2], "b.conv_depth": [1]}
        )
    text = str(caught.value)
    assert "no gene is called 'c.*'" in text
    assert "'a.kernel' has no value 7" in text
    assert "no value is left for 'b.conv_depth'" in text
    with pytest.raises(UserError, match="no gene is called"):
        SPACES["alphanet"].maximum({"*.attention_depth": [0]})


def test_architectures_of_another_space_are_refused() -> None:
    arch = SPACES["alphanet"].arch(SPACES["alphanet"].maximum())
    with pytest.raises(UserError, match="stages"):
        SPACES["tiny"].genome(arch)
    with pytest.raises(UserError) as caught:
        SPACES["nasvit"].genome(arch)
    assert len(caught.value.problems) > 3


@pytest.mark.parametrize("rows", [[[0]], [[99] * 13], [[-1] * 13]])
def test_genomes_out_of_range_are_refused(rows: list[list[int]]) -> None:
    with pytest.raises(UserError, match="13 indices"):
        SPACES["tiny"].canonical(np.array(rows))


@pytest.mark.parametrize("change", [{"head": None}, {"more": 1}, {"stem": "16"}, {"stages": 3}, {"stages": [{}]}])
def test_architectures_in_json_are_checked(change: dict[str, Any]) -> None:
    data = SPACES["tiny"].arch(SPACES["tiny"].maximum()).to_json()
    with pytest.raises(UserError):
        Arch.from_json(data | change)
    with pytest.raises(UserError, match="no JSON"):
        Arch.from_json("{")
