"""The predictor: what it learns, how it says so, and that it is the same after a save."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from h4hc.errors import IntegrityError, UserError
from nas.search.predictor import MODELS, Encoder, Predictor, cross_validated
from nas.space.space import SearchSpace
from tests.nas.search.conftest import Formula, Ints


@pytest.fixture
def fitted(space: SearchSpace) -> Predictor:
    genomes = np.unique(space.sample(np.random.default_rng(0), 80), axis=0)[:60]
    return Predictor.fit(space, genomes, Formula(space)(genomes))


def test_it_orders_networks_it_has_not_seen(fitted: Predictor, space: SearchSpace, every: Ints) -> None:
    from scipy.stats import kendalltau

    tau = kendalltau(Formula(space)(every), fitted.predict(every)).statistic
    assert tau > 0.6
    assert abs(tau - fitted.tau[fitted.kind]) < 0.2
    assert fitted.tau[fitted.kind] == max(fitted.tau.values())


def test_noise_has_no_order(space: SearchSpace) -> None:
    """Cross-validation does not look at what it predicts."""
    genomes = np.unique(space.sample(np.random.default_rng(0), 120), axis=0)
    noise = np.random.default_rng(1).random(len(genomes))
    for kind in MODELS:
        assert abs(cross_validated(Encoder.of(space).encode(genomes, kind), noise, kind, 0)) < 0.25


def test_a_saved_predictor_predicts_the_same(
    fitted: Predictor, space: SearchSpace, every: Ints, tmp_path: Path
) -> None:
    path = tmp_path / "predictor.json"
    fitted.save(path)
    loaded = Predictor.load(path, space)
    assert (loaded.predict(every) == fitted.predict(every)).all()
    assert loaded.fingerprint == fitted.fingerprint
    again = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == again


def test_constant_accuracies_have_no_tau(space: SearchSpace, tmp_path: Path) -> None:
    genomes = space.sample(np.random.default_rng(0), 20)
    found = Predictor.fit(space, genomes, np.full(20, 0.5))
    assert all(np.isnan(tau) for tau in found.tau.values())
    assert np.allclose(found.predict(genomes), 0.5)
    found.save(tmp_path / "p.json")
    assert "NaN" not in (tmp_path / "p.json").read_text()  # no JSON
    assert all(np.isnan(tau) for tau in Predictor.load(tmp_path / "p.json", space).tau.values())


def test_wrong_use(fitted: Predictor, space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="10 measured"):
        Predictor.fit(space, fitted.genomes[:9], fitted.accuracies[:9])
    with pytest.raises(UserError, match="10 measured"):
        Predictor.fit(space, fitted.genomes, np.full(60, np.nan))
    path = tmp_path / "predictor.json"
    with pytest.raises(UserError, match="cannot read"):
        Predictor.load(path, space)
    fitted.save(path)
    with pytest.raises(UserError, match="another search space"):
        Predictor.load(path, SearchSpace.load("tiny"))
    tree = json.loads(path.read_text())
    tree["accuracies"][0] += 0.01
    path.write_text(json.dumps(tree))
    with pytest.raises(IntegrityError, match="not what it was"):
        Predictor.load(path, space)
    path.write_text(path.read_text()[:100])
    with pytest.raises(IntegrityError, match="damaged"):
        Predictor.load(path, space)
