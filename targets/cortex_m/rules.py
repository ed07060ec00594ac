"""Rules of the host: none. It runs every operator, so that nothing a user brings is left without a place."""

from __future__ import annotations

from h4hc.costtypes import Rule

RULES: tuple[Rule, ...] = ()
