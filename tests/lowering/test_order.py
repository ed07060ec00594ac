"""Topological order against networkx."""

from __future__ import annotations

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.lowering.order import cycle_in, stable_order

GRAPHS = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=14))
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(GRAPHS)
def test_order_is_the_smallest_topological_one_and_cycles_are_found(case: tuple[int, set[tuple[int, int]]]) -> None:
    n, edges = case
    edges = {(a, b) for a, b in edges if a != b}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges)
    after = [sorted(a for a, b in edges if b == item) for item in range(n)]
    order, stuck = stable_order(after, range(n))
    if nx.is_directed_acyclic_graph(graph):
        assert order == list(nx.lexicographical_topological_sort(graph))
        assert stuck == []
        return
    assert sorted([*order, *stuck]) == list(range(n))
    cycle = cycle_in(after, stuck)
    assert all(cycle[(i + 1) % len(cycle)] in after[item] for i, item in enumerate(cycle))


def test_a_long_chain_needs_no_recursion() -> None:
    n = 20_000
    order, stuck = stable_order([[i + 1] for i in range(n)] + [[]], range(n + 1))
    assert order == list(range(n, -1, -1))
    assert stuck == []
