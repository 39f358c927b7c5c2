"""Training a scorer from pairs by one command."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.detection.scored_candidates import ScoredCandidates
from sparse_actors.detection.scorer import KEY, Scorer, ScorerFacts
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation import scorer_training
from sparse_actors.evaluation.pair_files import collect
from sparse_actors.evaluation.scorer_training import save, train_scorer
from sparse_actors.evaluation.tree_ensemble import onnx_bytes
from sparse_actors.imaging import Imaging

SIDE, SCALE = 384, 4
CONFIG = f"""
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[0.0, 0.0], [0.03, 0.0], [0.0, 0.02]]
tile_fov_um = 12.5
[scan.fast]
size_px = [{SIDE // SCALE}, {SIDE // SCALE}]
dwell_ns = 3200.0
[scan.analysis]
size_px = [{SIDE}, {SIDE}]
dwell_ns = 3200.0
"""


def picture(seed: int, sites: int) -> Any:
    """Sites are dark with a bright rim; as many shadows are soft and less dark."""
    rng = np.random.default_rng(seed)
    image = rng.normal(130, 3, (SIDE, SIDE))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(2 * sites):
        y, x = rng.uniform(10, SIDE - 10, 2)
        distance = np.hypot(rows - y, columns - x)
        if number % 2:
            image -= 60 * np.exp(-((distance / 6) ** 2))
        else:
            image += 50 * np.exp(-(((distance - 7) / 2) ** 2)) - 120 * (distance < rng.uniform(2, 5))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs_of(tmp_path_factory):
    def made(tiles: int, sites: int):
        images = tmp_path_factory.mktemp("images")
        for number in range(tiles):
            tifffile.imwrite(images / f"t{number}.tif", picture(number, sites))
        config = parse_config(CONFIG)
        pairs = collect(images, config, [config.fast], 0.0, 1)
        folder = tmp_path_factory.mktemp("pairs")
        pairs.save(folder)
        return type(pairs).open(folder)

    return made


@pytest.fixture(scope="module")
def pairs(pairs_of):
    return pairs_of(4, 25)


@pytest.fixture(scope="module")
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer_training, "TREES", 40)
        yield


@pytest.fixture(scope="module")
def trained(pairs, few_trees):
    return train_scorer(pairs, pairs.settings[0], seed=3)


def test_it_finds_sites_on_a_tile_it_has_not_seen_and_no_shadows(trained, tmp_path):
    file = tmp_path / "scorer.onnx"
    save(trained, file)
    unseen = picture(99, 25)
    fast = np.ascontiguousarray(unseen[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE])
    found = ScoredCandidates(model=file, min_score=0.5).detect(fast, SCALE)
    rng = np.random.default_rng(99)
    rng.normal(130, 3, (SIDE, SIDE))
    centres = []
    for number in range(50):
        y, x = rng.uniform(10, SIDE - 10, 2)
        if not number % 2:
            centres.append((x, y))
            rng.uniform(2, 5)
    distance = np.hypot(*(np.array(centres)[:, np.newaxis] - found.xy_px).transpose(2, 0, 1))
    assert (distance.min(axis=1) < 8).mean() >= 0.9
    assert (distance.min(axis=0) < 12).mean() >= 0.8


def test_the_same_seed_gives_the_same_file(trained, pairs):
    again = train_scorer(pairs, pairs.settings[0], seed=3)
    assert again.onnx == trained.onnx
    assert again.card == trained.card


def test_the_card_says_what_it_was_trained_and_judged_on(trained, tmp_path):
    file = tmp_path / "scorer.onnx"
    card = json.loads(save(trained, file).read_text("utf-8"))
    assert card["sha256"] == next(iter(ScoredCandidates.model_files(model=file).values()))
    assert card["trained_on"]["tiles"] == ["t0", "t1", "t2", "t3"]
    assert card["judged_on"]["tiles"] == 4
    assert card["judged_on"]["sites"] == card["trained_on"]["sites"] > 60
    recalls = [recall for recall, _ in card["judged_on"]["score_at_recall"]]
    scores = [score for _, score in card["judged_on"]["score_at_recall"]]
    assert recalls == sorted(recalls, reverse=True)
    assert scores == sorted(scores)
    assert max(recalls) > 0.9


def test_scores_mean_what_they_say(trained):
    for group in trained.card["judged_on"]["reliability"]:
        if group["candidates"] >= 30:
            assert group["share_of_sites"] == pytest.approx(group["mean_score"], abs=0.15)


def test_the_file_gives_what_the_trees_give(tmp_path):
    from sklearn.ensemble import HistGradientBoostingClassifier

    from sparse_actors.detection.candidates import FEATURES

    rng = np.random.default_rng(5)
    features = rng.normal(0, 20, (3000, len(FEATURES))).astype(np.float32)
    features[:, 3] = np.rint(features[:, 3])  # values on thresholds
    labels = (features[:, 3] + features[:, 1] > 5) & (features[:, 7] < 10)
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(features, labels)
    facts = ScorerFacts(
        format=1,
        features=FEATURES,
        scale=4,
        dwell_ns=1.0,
        polarity="dark",
        least_depth_grey=9.0,
        score_at_recall=((0.9, 0.5),),
    )
    file = tmp_path / "trees.onnx"
    file.write_bytes(onnx_bytes(model, (0.7, -0.2), {KEY: facts.to_json()}))
    scorer = Scorer(file)
    assert scorer.facts == facts
    expected = 1 / (1 + np.exp(-(0.7 * model.decision_function(features) - 0.2)))
    np.testing.assert_allclose(scorer.scores(features), expected, atol=1e-5)
    one_by_one = np.concatenate([scorer.scores(features[n : n + 1]) for n in range(50)])
    np.testing.assert_array_equal(one_by_one, scorer.scores(features)[:50])
    with pytest.raises(ConfigError, match=r"0\.9 at most"):
        facts.score_for(0.95)


def test_too_little_to_learn_from(pairs_of):
    few = pairs_of(2, 2)
    with pytest.raises(ConfigError, match="expected at least 30"):
        train_scorer(few, few.settings[0])
    one = pairs_of(1, 40)
    with pytest.raises(ConfigError, match="at least 2"):
        train_scorer(one, one.settings[0])


def test_facts_of_another_kind_are_refused():
    for text in ("[]", '{"format": 99}', '{"format": 1}'):
        with pytest.raises(ValueError, match=r"scorer|KeyError"):
            ScorerFacts.from_json(text)


def test_the_command(pairs, few_trees, tmp_path):
    out = tmp_path / "models" / "scorer.onnx"
    command = ["train", "detector", str(pairs.folder), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model"] == str(out)
    assert out.with_suffix(".json").is_file()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 3
    assert "--force" in again.output
    wrong = CliRunner().invoke(app, [*command[:-1], "--fast", "10x10@5", "--force"])
    assert wrong.exit_code == 3
    assert "96x96@3200" in wrong.output


def test_settings_must_be_named_where_there_are_several(pairs, tmp_path):
    settings = (*pairs.settings, Imaging((192, 192), 800.0))
    type(pairs)(**{**vars(pairs), "settings": settings}).save(tmp_path / "two")
    out = str(tmp_path / "scorer.onnx")
    result = CliRunner().invoke(app, ["train", "detector", str(tmp_path / "two"), "--out", out])
    assert result.exit_code == 3
    assert "--fast is missing" in result.output
