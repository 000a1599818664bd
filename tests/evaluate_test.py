# SPDX-License-Identifier: Apache-2.0
import json
import math
import types

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import config_dict
from tensorflow import keras

from tfseg import evaluate, inference, runs
from tfseg.datasets import base

INFO = base.Info(
    name="toy",
    class_names=("sky", "road", "unseen"),
    palette=((0, 0, 0), (9, 9, 9), (200, 0, 0)),
)


class Brightness(keras.Model):
    """Class 0 where red is below 100, else class 1; never class 2."""

    def call(self, images, training=None):
        bright = tf.sign(images[..., 0] - 100.0)
        return tf.stack([-bright, bright, -10 + 0 * bright], -1)


def _predictor(**options):
    return inference.Predictor(Brightness(), **options)


# Predictions are 0 0 1 / 1 1 0 and, in the second image, 1.
# Truth:          0 1 1 / 1 255 0           and 0.
IMAGES = np.array([[[0, 0, 200], [200, 200, 0]]], np.uint8)
LABELS = np.array([[[0, 1, 1], [1, 255, 0]]], np.int32)
SECOND = np.full([1, 1, 1], 200, np.uint8), np.zeros([1, 1, 1], np.int32)
MATRIX = [[2, 1, 0], [1, 2, 0], [0, 0, 0]]


def _gray(images):
    return np.repeat(images[..., None], 3, -1)


def _examples():
    return [(_gray(IMAGES), LABELS), (_gray(SECOND[0]), SECOND[1])]


def _dataset():
    def generate():
        yield from _examples()

    return tf.data.Dataset.from_generator(
        generate,
        output_signature=(
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([None, None, None], tf.int32),
        ),
    )


@pytest.mark.parametrize("examples", [_examples, _dataset])
def test_numbers_worked_out_by_hand(examples):
    result = evaluate.evaluate(_predictor(), examples(), INFO)
    np.testing.assert_array_equal(result["confusion_matrix"], MATRIX)
    assert result["confusion_matrix"].dtype == np.int64
    # Classes 0 and 1: 2 right of 2 + 1 + 1.
    np.testing.assert_allclose(result["iou"][:2], [0.5, 0.5])
    assert math.isnan(result["iou"][2])
    assert result["miou"] == pytest.approx(0.5)
    assert result["pixel_accuracy"] == pytest.approx(4 / 6)
    assert result["num_images"] == 2
    np.testing.assert_allclose(result["share"], [0.5, 0.5, 0.0])


def test_absent_class_counts_zero_on_request():
    result = evaluate.evaluate(_predictor(), _examples(), INFO, absent="zero")
    assert result["miou"] == pytest.approx(1 / 3)


def test_batches_of_other_sizes_give_the_same_numbers():
    images = np.random.default_rng(0).integers(0, 255, [4, 6, 6], np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, [4, 6, 6], np.int32)
    together = [(_gray(images), labels)]
    apart = [(_gray(images[i : i + 1]), labels[i : i + 1]) for i in range(4)]
    expected = evaluate.evaluate(_predictor(), together, INFO)
    for predictor in (_predictor(), _predictor(window=3, flip=True)):
        result = evaluate.evaluate(predictor, apart, INFO)
        np.testing.assert_array_equal(
            result["confusion_matrix"], expected["confusion_matrix"]
        )
        assert result["num_images"] == 4


def test_json_has_null_for_nan_and_names():
    result = evaluate.evaluate(_predictor(), _examples(), INFO)
    report = json.loads(
        json.dumps(evaluate.to_json(result), allow_nan=False),
    )
    assert report["iou"] == {"sky": 0.5, "road": 0.5, "unseen": None}
    assert report["confusion_matrix"] == MATRIX
    assert report["absent"] == "nan"
    assert report["num_images"] == 2


def test_nothing_but_ignored_pixels_is_null():
    examples = [(_gray(IMAGES) * 0, LABELS * 0 + 255)]
    result = evaluate.evaluate(_predictor(), examples, INFO)
    report = json.loads(json.dumps(evaluate.to_json(result), allow_nan=False))
    assert report["miou"] is None
    assert report["pixel_accuracy"] is None
    assert "mIoU" in evaluate.table(result)


def test_table_has_a_line_for_each_class():
    lines = evaluate.table(
        evaluate.evaluate(_predictor(), _examples(), INFO)
    ).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["sky", "50.00%", "50.00%"],
        ["road", "50.00%", "50.00%"],
        ["unseen", "-", "0.00%"],
        ["mIoU", "50.00%"],
        ["pixel", "accuracy", "66.67%"],
    ]


def test_bad_examples_are_refused():
    with pytest.raises(ValueError, match="no images"):
        evaluate.evaluate(_predictor(), [], INFO)
    two = base.Info(name="two", class_names=("a", "b"), palette=((0,) * 3,) * 2)
    with pytest.raises(ValueError, match="predicts 3 classes.*'two' has 2"):
        evaluate.evaluate(_predictor(), _examples(), two)


@pytest.fixture(name="run")
def _run(monkeypatch):
    config = config_dict.ConfigDict(
        {"evaluate": {"window": 2, "overlap": 0.0, "absent": "zero"}}
    )
    run = types.SimpleNamespace(
        config=config, info=INFO, network=Brightness(), step=7, checkpoint="c"
    )
    asked = []
    monkeypatch.setattr(runs, "load", lambda *args: asked.append(args) or run)
    monkeypatch.setattr(
        evaluate,
        "evaluation_examples",
        lambda *args: asked.append(args[1:]) or _dataset(),
    )
    run.asked = asked
    return run


def test_run_writes_what_was_evaluated_and_how(run, tmp_path):
    evaluate.evaluate_run(tmp_path, split="test", checkpoint="last", flip=True)
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert run.asked == [(tmp_path, "last", ""), (tmp_path, "test")]
    assert report["step"] == 7
    assert report["split"] == "test"
    assert report["checkpoint"] == "c"
    assert report["absent"] == "zero"
    assert report["miou"] == pytest.approx(1 / 3)
    assert report["inference"] == {
        "scales": [1.0],
        "flip": True,
        "average": "probabilities",
        "window": [2, 2],
        "overlap": 0.0,
    }


def test_arguments_win_over_the_config_of_the_run(run, tmp_path):
    out = tmp_path / "other.json"
    evaluate.evaluate_run(tmp_path, window=0, absent="nan", out=out)
    report = json.loads(out.read_text())
    assert report["inference"]["window"] == 0
    assert report["absent"] == "nan"
    assert not (tmp_path / "evaluation.json").exists()


def test_file_to_write_is_made_sure_of_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "e.json"):
        with pytest.raises(ValueError, match=f"{out} cannot be written.*Fix: "):
            evaluate.evaluate_run(tmp_path, out=out)
    assert run.asked == [(tmp_path, "best", "")] * 2
    out = tmp_path / "missing" / "e.json"
    evaluate.evaluate_run(tmp_path, out=out)
    assert json.loads(out.read_text())["step"] == 7
