"""Fused attention operators: one host operator, with the MACs of the products inside.

Q has S positions, K and V have T (cache included); with H query heads of size d and value heads of size e:
    Q K^T: batch x H x S x T x d        (softmax) V: batch x H x S x T x e
"""

from __future__ import annotations

import math

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Site


def attention(site: Site) -> Lowered:
    """Attention of the ONNX standard (opset 23 on)."""
    return generic(site, attention_macs(site))


def attention_macs(site: Site) -> int:
    """Both products of ONNX Attention; 3-D inputs hold all heads in the last axis, 4-D ones in axis 1."""
    q, k, v = site.shape(0), site.shape(1), site.shape(2)
    past = site.shape(4)[2] if site.has(4) and len(site.shape(4)) == 4 else 0
    if len(q) == 4 and len(k) == 4 and len(v) == 4:
        batch, heads, positions, d = q
        return batch * heads * positions * (k[2] + past) * (d + v[3])
    if len(q) != 3 or len(k) != 3 or len(v) != 3:
        return 0
    heads, kv_heads = site.integer("q_num_heads", 1), site.integer("kv_num_heads", 1)
    return q[0] * q[1] * (k[1] + past) * (q[2] + heads * (v[2] // max(1, kv_heads)))


def linear_attention(site: Site) -> Lowered:
    """LinearAttention: a state of d x e a head instead of T x T weights."""
    return generic(site, linear_attention_macs(site))


def linear_attention_macs(site: Site) -> int:
    """Each position adds k v^T to the state and reads it with q: 2 x out elements x d, with out = (.., heads e)."""
    q = site.shape(0)
    heads = site.integer("q_num_heads", 1) if len(q) == 3 else 1
    return 2 * math.prod(site.out()) * (q[-1] // max(1, heads)) if q else 0


def packed_attention(site: Site) -> Lowered:
    """com.microsoft Attention and QAttention: input and output projections of Q, K, V included."""
    return generic(site, packed_attention_macs(site))


def packed_attention_macs(site: Site) -> int:
    """positions x in x (d + d + e) of the projection, then both products over T = past + S positions."""
    x, w = site.shape(0), site.shape(1)
    if len(x) != 3 or len(w) != 2:
        return 0
    past_index = 8 if site.node.op_type == "QAttention" else 4
    past = site.shape(past_index) if site.has(past_index) else ()
    total = x[1] + (past[3] if len(past) == 5 else 0)
    value_width = site.out()[-1]
    return x[0] * x[1] * w[0] * w[1] + x[0] * x[1] * total * ((w[1] - value_width) // 2 + value_width)


def multi_head_attention(site: Site) -> Lowered:
    """com.microsoft MultiHeadAttention, GroupQueryAttention, DecoderMaskedMultiHeadAttention."""
    return generic(site, multi_head_attention_macs(site))


def multi_head_attention_macs(site: Site) -> int:
    """positions x T x (width of Q + width of the result); packed Q, K, V count by the width of the result."""
    q, out = site.shape(0), site.out()
    if len(q) not in (3, 5) or len(out) != 3:
        return 0
    keys = site.shape(1) if site.has(1) else q
    new = keys[2] if len(keys) == 4 else keys[1]
    past_index = 3 if site.node.op_type == "GroupQueryAttention" else 6
    past = site.shape(past_index) if site.has(past_index) else ()
    width = q[2] if len(q) == 3 and site.has(2) else out[2]
    return q[0] * q[1] * (new + (past[2] if len(past) == 4 else 0)) * (width + out[2])
