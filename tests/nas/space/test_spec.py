"""Faulty search spaces: each fault named with its key and line, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from h4hc.errors import ExitCode, UserError
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec, divisible
from nas.yaml_file import parse_model

STAGE = "  - {name: a, width: [8, 16], stride: 2, conv_depth: [1]}"
GOOD = f"""\
name: good
resolution: [16]
stem: {{width: [8]}}
stages:
{STAGE}
head: {{width: [16]}}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse_model(text, SpaceSpec, "space.yaml")
    assert caught.value.exit_code == ExitCode.USAGE
    return ["\n".join(problem.lines()) for problem in caught.value.problems]


def test_the_good_one_is_read() -> None:
    assert SearchSpace(parse_model(GOOD, SpaceSpec, "space.yaml")).size() == 2


@pytest.mark.parametrize(
    ("old", "new", "says", "line"),
    [
        ("conv_depth: [1]", "conv_depth: [1], depht: [1]", "there is no key stages[0].depht", 5),
        ("resolution: [16]", "resolution: []", "resolution: the list is empty", 2),
        ("resolution: [16]", "resolution: [16, 8]", "choices must rise", 2),
        ("resolution: [16]", "resolution: [0]", "resolution[0]: ", 2),
        ("resolution: [16]", "resolution: [3]", "smaller than the strides", None),
        ("conv_depth: [1]", "conv_depth: [0, 1]", "conv_depth 0 needs stride 1", None),
        ("conv_depth: [1]", "conv_depth: [1], kernel: [3, 4]", "kernels are odd", 5),
        ("conv_depth: [1]", "conv_depth: [1], block: [conv, conv]", "block types must differ", 5),
        ("conv_depth: [1]", "conv_depth: [1], block: [vit]", "stages[0].block[0]: ", 5),
        ("conv_depth: [1]", "conv_depth: [1], attention: {depth: [0, 1], head_dim: 3}", "no multiple of head_dim", 5),
        ("conv_depth: [1]", "conv_depth: [1], stride: 1", "given twice", 5),
        ("conv_depth: [1]", "conv_depth: [1], expand: [1, .inf]", "finite", 5),
        ("conv_depth: [1]", "conv_depth: [1], block: [conv], expand: [2, 3], se: true", "effect here: expand, se", 5),
        ("conv_depth: [1]", "conv_depth: [0], kernel: [3, 5]", "without effect here: kernel", 5),
        (
            "conv_depth: [1]",
            "conv_depth: [1], attention: {depth: [0], head_dim: 8, mlp_ratio: [1, 2]}",
            "without effect here: attention.mlp_ratio",
            5,
        ),
        (
            "stages:\n  - {name: a, width: [8, 16], stride: 2, conv_depth: [1]}",
            "stages: []",
            "stages: the list is empty",
            4,
        ),
        ("name: a", "name: stem", "has the name of another part", None),
        ("stem: {width: [8]}\n", "", "stem: Field required", None),
    ],
)
def test_each_fault_is_named_with_key_and_line(old: str, new: str, says: str, line: int | None) -> None:
    assert old in GOOD
    (found,) = problems(GOOD.replace(old, new))
    assert says in found
    assert "space.yaml" + (f":{line}" if line else "") in found


def test_all_faults_come_at_once() -> None:
    text = GOOD.replace("head", "haed").replace("[16]", "[]").replace("stride", "strides")
    found = problems(text)
    wanted = ("no key haed", "head: Field required", "resolution: the list is empty", "no key stages[0].strides")
    assert len(found) == len(wanted)
    assert all(any(text in problem for problem in found) for text in wanted)


@pytest.mark.parametrize("text", ["", "- a", "name: [", "just text"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert len(problems(text)) == 1


def test_unknown_presets_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no search space 'tinny'") as caught:
        SearchSpace.load("tinny")
    assert "alphanet, h4h, nasvit, tiny" in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        SearchSpace.load(tmp_path / "none.yaml")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert SearchSpace.load(path).spec.name == "good"


ROUNDED = [(1, 8, 8), (12, 8, 16), (20, 8, 24), (36, 8, 40), (48, 8, 48), (33, 8, 32), (35, 16, 32), (36, 16, 48)]


@pytest.mark.parametrize(("value", "by", "rounded"), ROUNDED)
def test_channels_are_rounded_but_not_far_down(value: float, by: int, rounded: int) -> None:
    assert divisible(value, by) == rounded
    assert rounded >= 0.9 * value
