"""explain answers from the report alone, for nodes that run, that were fused, that were dropped, that do not exist."""

from __future__ import annotations

import json
from typing import Any

import pytest

from h4hc.errors import UserError
from h4hc.explain import explain, find_nodes, reasons, render
from h4hc.report import make_report, report_bytes
from tests.fake_compilation import compile_fake, fake_workload
from tests.test_report import HOSTILE


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(report_bytes(make_report(compile_fake())))
    return loaded


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("/net/layer0", ["/net/layer0"]),  # exact, although it is part of another name
        ("/net/layer0/Relu", ["/net/layer0/Relu"]),
        ("layer3", ["/net/layer3"]),  # one operator, two of whose nodes match
        ("*layer[25]", ["/net/layer2", "/net/layer5"]),
        ("Identity", ["/net/layer0/Identity"]),
        ("layer", [f"/net/layer{i}" for i in range(8)]),  # operators; nodes that are a part of them are not listed
    ],
)
def test_what_a_name_means(report: dict[str, Any], given: str, found: list[str]) -> None:
    assert find_nodes(report, given) == found


@pytest.mark.parametrize("given", ["/net/layr0", "", "no such thing at all"])
def test_unknown_node_is_a_usage_error_with_close_names(report: dict[str, Any], given: str) -> None:
    with pytest.raises(UserError) as caught:
        find_nodes(report, given)
    assert caught.value.exit_code == 2
    if given == "/net/layr0":
        assert "'/net/layer0'" in caught.value.problems[0].why


def test_names_that_are_globs_are_found_as_they_stand() -> None:
    made = make_report(compile_fake(fake_workload(3, prefix="/net[0]*/")))
    assert find_nodes(made, "/net[0]*/layer1") == ["/net[0]*/layer1"]


def test_fused_node_says_with_whom(report: dict[str, Any]) -> None:
    answer = explain(report, "/net/layer0/Relu")
    assert answer["op"]["id"] == "/net/layer0"
    text = render(report, answer)
    assert "together with  /net/layer0:" in text
    assert "pass drop-no-ops left /net/layer0: two users" in text


def test_dropped_node_says_which_pass_and_why(report: dict[str, Any]) -> None:
    answer = explain(report, "/net/layer0/Identity")
    assert answer["op"] is None
    assert answer["removed"] == [{"pass": "drop-no-ops", "why": "it returned its input"}]
    assert "dropped by drop-no-ops: it returned its input" in render(report, answer)


def test_refusal_has_rule_value_and_limit(report: dict[str, Any]) -> None:
    text = render(report, explain(report, "/net/layer2"))
    assert "host is the only mode" in text
    assert "fast.macs: the operator multiplies" in text
    assert "seen   0 MAC; limit 1 MAC or more; do: fuse it into its producer" in text


def reason(report: dict[str, Any], name: str) -> str:
    return reasons(report, explain(report, name)["op"])[0]


def test_reasons_follow_the_plan(report: dict[str, Any]) -> None:
    assert "would cost the same" in reason(report, "/net/layer0")
    pinned = make_report(compile_fake(pins=("/net/layer1=host",)))
    assert reason(pinned, "/net/layer1") == "the options leave no other mode: --pin /net/layer1=host"
    full = make_report(compile_fake(fake_workload(27)))
    outside = next(op["id"] for op in full["ops"] if op["macs"] and op["device"] == "host")
    assert "no other mode has room" in reason(full, outside)


def test_plan_that_one_move_would_improve_is_admitted(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report))
    changed["solver"]["status"] = "feasible, bound not closed"
    changed["ops"][0]["alternatives"][0]["delta_value"] = -5_000
    said = reason(changed, "/net/layer0")
    assert "would improve the latency by 5 ns" in said
    assert "feasible, bound not closed" in said


def test_cheaper_alone_but_not_in_the_plan(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report))
    other = changed["ops"][0]["alternatives"][0]
    other["latency_ps"]["nominal"] = 1
    other["delta_value"] = 7_000
    assert "by itself it is cheaper on fast*2" in reason(changed, "/net/layer0")
    assert "worse by 7 ns" in reason(changed, "/net/layer0")


@pytest.mark.parametrize("width", [60, 100])
def test_hostile_names_stay_text(width: int) -> None:
    made = make_report(compile_fake(fake_workload(4, prefix=HOSTILE), why=HOSTILE))
    for op in made["ops"]:
        text = render(made, explain(made, op["id"]), width)
        assert all(c.isprintable() for c in text.replace("\n", ""))
        assert max(map(len, text.split("\n"))) <= width
