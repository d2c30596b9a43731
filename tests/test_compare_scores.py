"""Scores of checkpoints, their scales, the trade-off and the proposal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from engine.compare import scores
from engine.compare.candidates import Tried, evenly, has, without
from engine.compare.features import rough_features
from engine.compare.judging import MUCH_DRIFT, Candidate, Ends, Scores, Shares, front_of, judge, shares_of
from engine.compare.measuring import candidates_of, ends_of, readable, rough, see
from engine.errors import UserError
from tests.painted import Painted

NUMBERS = np.random.default_rng(3)


def rows(count: int, width: int = 8) -> scores.Floats:
    return scores.unit(NUMBERS.normal(size=(count, width)))


def test_likeness_counts_the_nearest_training_pictures():
    training = np.eye(6)
    assert scores.likeness(training[:2], training, nearest=1) == 1
    assert scores.likeness(training[:2], training, nearest=2) == 0.5
    assert scores.likeness(training[:1], training[:1]) == 1
    assert scores.own_likeness(training) == 0
    assert scores.own_likeness(training[:1]) == 1


def test_diversity_is_the_mean_distance_of_all_pairs_within_a_prompt():
    one, other = rows(3), rows(2)
    pairs = [1 - one[a] @ one[b] for a, b in ((0, 1), (0, 2), (1, 2))] + [1 - other[0] @ other[1]]
    assert scores.diversity([one, other]) == pytest.approx(np.mean(pairs))
    assert math.isnan(scores.diversity([one[:1]]))


def test_leak_and_fidelity_go_picture_by_picture():
    base = rows(4)
    assert scores.leak(base, base) == pytest.approx(0)
    assert scores.leak(-base, base) == pytest.approx(2)
    assert scores.fidelity(base, base) == pytest.approx(1)


def grey_of(pixels: scores.Floats) -> scores.Floats:
    return np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)


def test_drift_tells_a_doubled_contrast_and_lost_colours():
    base = NUMBERS.uniform(0.3, 0.7, (16, 16, 3))
    assert scores.drift([base], [base]) == 0
    twice = 0.5 + 2 * (base - 0.5)
    assert math.log(scores.contrast(twice) / scores.contrast(base)) == pytest.approx(math.log(2))
    assert scores.drift([twice], [base]) > math.log(2)
    assert scores.drift_beyond([base], [grey_of(base)], [twice]) == 0
    assert scores.drift_beyond([twice], [base], [base]) == pytest.approx(scores.drift([twice], [base]))
    grey = grey_of(base)
    assert scores.saturation(grey) == pytest.approx(0, abs=1e-12)
    assert scores.drift([grey], [base]) > 3
    assert scores.saturation(np.zeros((2, 2, 3))) == 0


def test_rough_features_tell_colours_and_layout():
    red, blue = np.zeros((32, 32, 3)), np.zeros((32, 32, 3))
    red[..., 0], blue[..., 2] = 1, 1
    halves = red.copy()
    halves[:, 16:] = blue[:, 16:]
    features = rough_features([red, red[::2], blue, halves, halves[:, ::-1]])
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    cosines = features @ features.T
    assert cosines[0, 1] == pytest.approx(1)
    assert cosines[0, 2] < cosines[0, 3] < 1
    assert cosines[3, 4] < 1  # the same colours at other places


@pytest.mark.parametrize(
    ("measured", "name", "share"),
    [
        (Scores(likeness=0.4), "likeness", 0.0),
        (Scores(likeness=0.6), "likeness", 0.5),
        (Scores(likeness=0.9), "likeness", 1.0),
        (Scores(fidelity=0.2), "fidelity", 2 / 3),
        (Scores(diversity=0.1), "diversity", 0.5),
        (Scores(leak=0.1), "leak", 0.75),
        (Scores(leak=0.9), "leak", 0.0),
        (Scores(drift=MUCH_DRIFT / 2), "drift", 0.5),
        (Scores(validation_loss=0.2), "validation_loss", 0.5),
        (Scores(), "leak", None),
    ],
)
def test_each_score_has_a_scale_with_fixed_ends(measured: Scores, name: str, share: float | None):
    ends = Ends(0.4, 0.8, base_fidelity=0.3, base_diversity=0.5, own_diversity=0.2, plain_apart=0.4, best_loss=0.1)
    found = getattr(shares_of(measured, ends), name)
    assert found == (share if share is None else pytest.approx(share))


def test_leak_is_held_against_all_the_base_models_pictures_without_the_trigger_word(tmp_path: Path):
    """Two prompts whose pictures are the same for the same seed: of six pairs four are apart."""
    painted = Painted(tmp_path)
    files = {(0, prompt, seed): painted.drawn(0, prompt, seed) for prompt in range(3) for seed in range(2)}
    seen = see(files, [painted.disc(0, "training"), painted.disc(1, "other")], rough)
    apart = scores.diversity([np.stack([seen.rows[files[0, 1, seed]] for seed in range(2)])])
    assert apart > 0.01
    assert ends_of(files, seen, 1, []).plain_apart == pytest.approx(apart * 4 / 6)


def test_outlines_tell_a_subject_before_any_background():
    def square(at: int, ink: float, ground: float) -> scores.Floats:
        pixels = np.full((64, 64, 3), ground)
        pixels[at : at + 24, at : at + 24] = ink
        return pixels

    one, other_ground, other_place = rough_features([square(8, 0.9, 0.1), square(8, 0.1, 0.6), square(32, 0.9, 0.1)])
    assert one @ other_ground > one @ other_place


def test_a_training_picture_that_cannot_be_read_is_left_out(tmp_path: Path):
    torn, whole = tmp_path / "torn.png", Painted(tmp_path).disc(0, "whole")
    torn.write_bytes(b"no picture")
    assert readable([torn, whole]) == [whole]
    with pytest.raises(UserError, match="none of the training pictures can be read"):
        readable([torn])


def test_a_subject_that_the_base_model_knows_cannot_be_learnt():
    assert not Ends(0.8, 0.8).tells_learning
    assert shares_of(Scores(likeness=0.8), Ends(0.8, 0.8)).learnt == 0


def test_the_front_is_what_no_other_surpasses():
    points = [(0.1, 0.9), (0.5, 0.5), (0.4, 0.4), (0.9, 0.1), (0.5, 0.5), (0.5, 0.6)]
    assert front_of(points) == (0, 5, 3)
    assert front_of([]) == ()


def candidate(name: str, learnt: float, kept: float, loss: float | None = None) -> Candidate:
    return Candidate(name, f"{name}.safetensors", 1.0, Scores(), Shares(learnt, kept, kept, kept, kept, loss))


def test_the_good_one_is_proposed_with_reasons():
    found = judge([candidate("early", 0.02, 1.0), candidate("middle", 0.8, 0.85), candidate("late", 0.95, 0.3)])
    assert found.proposed == 1
    assert found.front == (0, 1, 2)
    told = " ".join(found.reasons)
    assert "middle has the best balance" in told
    assert "early has learnt less (2%)" in told
    assert "late has learnt more but keeps 30%" in told


def test_none_is_proposed_where_none_is_worth_it():
    under = judge([candidate("early", 0.02, 1.0)])
    assert under.proposed is None
    assert "None has learnt the subject" in under.reasons[0]
    burnt = judge([candidate("late", 1.0, 0.02)])
    assert burnt.proposed is None
    assert "have lost the rest" in burnt.reasons[0]
    assert judge([]).proposed is None


def test_the_validation_loss_decides_between_equals():
    assert judge([candidate("a", 0.8, 0.8, 0.9), candidate("b", 0.8, 0.8, 1.0)]).proposed == 1
    assert judge([candidate("a", 0.8, 0.8), candidate("b", 0.8, 0.8)]).proposed == 0


def test_the_trigger_word_is_found_and_left_out_as_a_word():
    assert has("a ZKT blob", "zkt")
    assert not has("a zkts blob", "zkt")
    assert without("zkt, a red blob", "zkt") == "a red blob"
    assert without("a zkt blob, zkt, red", "zkt") == "a blob, red"
    assert evenly(list(range(10)), 3) == [0, 3, 6]


def test_painted_pictures_are_judged_without_a_network(tmp_path: Path):
    """A subject of yellow discs: one candidate ignores it, one draws it, one draws nothing else any more."""
    painted = Painted(tmp_path)
    files = {
        (place, prompt, seed): painted.drawn(place, prompt, seed)
        for place in range(4) for prompt in range(2) for seed in range(2)
    }  # fmt: skip
    training = [painted.disc(number, f"training-{number}") for number in range(4)]
    tried = [Tried(place + 1, name, tmp_path / name, 1.0, None) for place, name in enumerate(("under", "good", "over"))]
    found, _ = candidates_of(files, see(files, training, rough), tried, 1)
    assert [one.name for one in found] == ["under", "good", "over"]
    assert judge(found).proposed == 1
    assert found[0].shares.learnt < 0.3 < found[1].shares.learnt
    assert found[2].shares.leak is not None
    assert found[1].shares.leak is not None
    assert found[2].shares.leak < found[1].shares.leak - 0.3
    del files[2, 0, 0]
    assert [one.name for one in candidates_of(files, see(files, training, rough), tried, 1)[0]] == ["under", "over"]
