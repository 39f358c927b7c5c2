"""A trained sampler as text, and the terms of its polynomial."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sampling_reference import some_model

from sparse_actors.sampling.erd_model import ErdModel
from sparse_actors.sampling.features import all_terms, polynomial, polynomial_terms


@pytest.mark.parametrize("values", ["labels", "continuous"])
def test_text_holds_a_model_exactly(values):
    model = some_model(values, "local")
    assert ErdModel.from_json(model.to_json()) == model


@pytest.mark.parametrize("values", ["labels", "continuous"])
def test_terms_and_the_compiled_polynomial_agree(values):
    model = some_model(values)
    features = np.random.default_rng(0).random((20, 6))
    if values == "labels":
        features[:, 4:] = features[:, 4:] > 0.5
    terms = polynomial_terms(features, continuous=values == "continuous")
    assert terms.shape == (20, len(model.coefficients))
    compiled = [polynomial(all_terms(model.coefficients), f) for f in features]
    np.testing.assert_allclose(compiled, terms @ model.coefficients)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"coefficients": [1.0] * 25}, "expected 26 coefficients, got 25"),
        ({"coefficients": [float("nan")] * 26}, "finite"),
        ({"values": "continuous"}, "expected 28"),
        ({"values": "words"}, "values = 'words'"),
        ({"features": "many"}, "features = 'many'"),
        ({"window_c": 0}, "window_c"),
        ({"colour": 1}, "has no colour"),
    ],
)
def test_text_that_is_no_model_is_refused(change, said):
    text = json.dumps(json.loads(some_model().to_json()) | change)
    with pytest.raises(ValueError, match=said):
        ErdModel.from_json(text)


@pytest.mark.parametrize("text", ["[]", "{}", "x"])
def test_text_that_is_something_else_is_refused(text):
    with pytest.raises(ValueError):
        ErdModel.from_json(text)
