# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest
import tensorflow as tf

from tfseg import inference, lookup
from tfseg.benchmarks import evaluate
from tfseg.data import pipeline

FCN = {"name": "fcn", "width": 4}


class Recorder:
    """A network that keeps the shapes of what it is shown."""

    def __init__(self):
        self.shapes = []

    def __call__(self, images, training):
        tf.py_function(self._keep, [tf.shape(images)], [])
        return tf.repeat(images, 7, axis=-1)

    def _keep(self, shape):
        self.shapes.append(tuple(shape.numpy()[:3].tolist()))


@pytest.mark.parametrize("size", [16, 21])
@pytest.mark.parametrize("case", evaluate.CASES)
def test_bare_passes_are_those_that_the_predictor_makes(case, size):
    network, bare = Recorder(), Recorder()
    predictor = evaluate.build_predictor(case, network, size)
    predictor(tf.zeros([3, size, size - 5, 3]))
    shown = evaluate.shown(predictor, 3, size, size - 5)
    assert sorted(shown) == sorted(network.shapes)
    evaluate.bare_passes(bare, shown)()
    assert bare.shapes == shown


def test_passes_of_windows_by_hand():
    predictor = inference.Predictor(None, window=8, overlap=0.5, batch=4)
    # Three windows along 16 pixels, two along 12.
    assert evaluate.shown(predictor, 1, 16, 12) == [(4, 8, 8), (2, 8, 8)]


def test_files_are_of_five_sizes_and_have_ignored_pixels(tmp_path):
    sizes = evaluate.image_sizes(16)
    assert len(set(sizes)) == 5
    pool = evaluate.write(str(tmp_path), sizes, 2)
    assert {path.rpartition(".")[2] for path in pool.images} == {"jpeg", "png"}
    found = [
        (image.shape, np.unique(label))
        for image, label in pipeline.evaluation_batches(pool, batch=2)
    ]
    assert {shape for shape, _ in found} == {(2, *pair, 3) for pair in sizes}
    for _, classes in found:
        assert evaluate.IGNORED in classes and len(classes) > 2
        assert all(0 <= label <= 20 for label in classes if label != 255)


def test_evaluation_counts_all_labeled_pixels(tmp_path):
    pool = evaluate.write(str(tmp_path), evaluate.image_sizes(16), 1)
    predictor = evaluate.build_predictor("evaluator", Recorder(), 16)
    matrix = evaluate.evaluation(predictor, pool, 1)()
    labels = [
        np.array(tf.io.decode_png(tf.io.read_file(path)))
        for path in pool.labels
    ]
    labeled = sum(np.sum(label != 255) for label in labels)
    assert matrix.shape == (21, 21) and np.sum(matrix) == labeled
    assert len(predictor.network.shapes) == 5


def test_traces_are_counted():
    class Forgetful(inference.Predictor):
        def __init__(self, network):
            super().__init__(network)
            self._predict = tf.function(self._whole)

    sizes = evaluate.image_sizes(16)
    network = Recorder()
    assert evaluate.count_traces(inference.Predictor(network), sizes) == 1
    assert evaluate.count_traces(Forgetful(network), sizes) == 5


def test_records(monkeypatch):
    def here(function, *args):
        return pickle.loads(pickle.dumps(function))(*args)

    monkeypatch.setattr(evaluate.base, "fresh", here)
    records = list(
        evaluate.run(networks={"small": FCN}, size=16, batch=2, repeats=2)
    )
    cases = [f"small, {case}" for case in evaluate.CASES]
    assert [record["case"] for record in records] == cases
    for record in records:
        assert set(evaluate.COLUMNS) < set(record)
        assert record["traces"] == 1 and record["bare_seconds"] > 0
        rate = record["images"] / record["seconds"]
        assert record["images_per_second"] == pytest.approx(rate)
    assert [record["images"] for record in records] == [2, 2, 2, 10]
    assert lookup.module("benchmarks", "evaluate") is evaluate
