"""RNN, LSTM, GRU: host operators with their true MACs."""

from __future__ import annotations

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Site


def recurrent(site: Site) -> Lowered:
    """RNN, LSTM, GRU and their quantised or extended forms of onnxruntime."""
    return generic(site, recurrent_macs(site))


def recurrent_macs(site: Site) -> int:
    """sequence x batch x (elements of W + elements of R).

    W is (directions, gates x hidden, input), R is (directions, gates x hidden, hidden): each step multiplies
    every weight once for each sequence of the batch. `layout` swaps the two first axes of X, not their product.
    """
    x = site.shape(0)
    return x[0] * x[1] * (site.fact(1).elements + site.fact(2).elements) if len(x) == 3 else 0
