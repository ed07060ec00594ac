"""The panel holds what its groups say, and is the same for every run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from h4hc.errors import UserError
from nas.space.space import SearchSpace
from nas.study import panel
from nas.study.design import Study


def _depths(space: SearchSpace, genomes: tuple[tuple[int, ...], ...]) -> set[int]:
    stages = [name for name, values in space.fields.items() if name.endswith(".attention_depth") and len(values) > 1]
    with_attention = {name.split(".")[0] for name in stages}
    archs = [space.arch(genome) for genome in genomes]
    return {
        stage.attention_depth
        for arch in archs
        for spec, stage in zip(space.spec.stages, arch.stages, strict=True)
        if spec.name in with_attention
    }


def test_groups_hold_networks_of_their_type() -> None:
    space = SearchSpace.load("tiny")
    found = panel.make_panel(space)
    sizes = {group: len(genomes) for group, genomes in found.items()}
    assert sizes == {"max": 1, "min": 1, "max_conv": 1, "random_conv": 8, "random_any": 12, "random_full": 8}
    assert _depths(space, found["random_conv"] + found["max_conv"] + found["min"]) == {0}
    assert _depths(space, found["random_full"] + found["max"]) == {2}
    assert _depths(space, found["random_any"]) == {0, 1, 2}
    assert len({genome for genomes in found.values() for genome in genomes}) == 31


def test_the_panel_is_fixed() -> None:
    assert panel.make_panel(SearchSpace.load("tiny")) == panel.make_panel(SearchSpace.load("tiny"))


@pytest.mark.parametrize("preset", ["alphanet", "nasvit"])
def test_a_space_without_phases_is_refused(preset: str) -> None:
    with pytest.raises(UserError, match="no phases by block type"):
        panel.make_panel(SearchSpace.load(preset))


def test_the_panel_of_a_small_space(study: Callable[..., Study]) -> None:
    space = SearchSpace.load(study().space)
    assert all(tuple(space.canonical([g])[0]) == g for gs in panel.make_panel(space).values() for g in gs)  # type: ignore[arg-type]
