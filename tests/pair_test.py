# SPDX-License-Identifier: Apache-2.0
"""Runs with two networks, also of different form, from training to export.

That of `studies.overlap`, which is for such runs, is here as well.
"""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from configs import cross_supervision
from tests import miniature
from tfseg import evaluate, export, runs, train
from tfseg.studies import overlap


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = miniature.make_folder(tmp_path_factory.mktemp("d") / "mine")
    config = miniature.config(folder, "supervised", train__steps=4)
    config.method = cross_supervision.get("cps_cutmix")
    config.second_network = {"name": "fcn", "width": 4}
    workdir = str(tmp_path_factory.mktemp("runs") / "pair")
    train.train(config, workdir)
    return workdir


def _prob(logits):
    return tf.nn.softmax(logits).numpy()


def test_either_network_and_their_average(workdir, tmp_path):
    loaded = {
        name: runs.load(workdir, "last", name)
        for name in ("", "network1", "network2", "average")
    }
    sizes = {
        name: sum(v.shape.num_elements() for v in run.network.variables)
        for name, run in loaded.items()
    }
    assert sizes[""] == sizes["network1"] > sizes["network2"]
    assert sizes["average"] == sizes["network1"] + sizes["network2"]
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    prob = {
        name: _prob(run.network(image.astype(np.float32)))
        for name, run in loaded.items()
    }
    mean = (prob["network1"] + prob["network2"]) / 2
    np.testing.assert_allclose(prob["average"], mean, atol=1e-6)
    path = str(tmp_path / "export")
    export.export(loaded["average"].network, loaded["average"].info, path)
    served = tf.saved_model.load(path).signatures["serving_default"]
    outputs = served(images=tf.constant(image))
    np.testing.assert_allclose(outputs["probabilities"], mean, atol=1e-5)


def test_evaluation_names_the_network(workdir, tmp_path):
    results = {}
    for name in ("network2", "average"):
        out = str(tmp_path / f"{name}.json")
        evaluate.evaluate_run(workdir, network=name, out=out)
        results[name] = runs.read_json(out)
        assert results[name]["network"] == name
    with pytest.raises(ValueError, match="network1, network2, average"):
        runs.load(workdir, network="student")


def test_overlap_is_logged(workdir):
    lines = open(f"{workdir}/metrics.jsonl").read()
    for name in ("overlap", "overlap_labeled", "overlap_unlabeled"):
        assert f'"train/{name}"' in lines
    assert "val_network2/miou" in lines


def test_curves_are_what_training_logged(workdir, tmp_path):
    result = overlap.run(workdir=str(tmp_path), runs=[workdir])
    (curves,) = result.values()
    rows = [json.loads(line) for line in open(f"{workdir}/metrics.jsonl")]
    rows = [row for row in rows if "train/overlap" in row]
    assert curves["steps"] == [row["step"] for row in rows] == [2, 4]
    assert curves["method"] == "cps_cutmix"
    for part in ("labeled", "unlabeled"):
        assert curves[part] == [row[f"train/overlap_{part}"] for row in rows]
    assert curves["all"] == [row["train/overlap"] for row in rows]
    assert json.loads((tmp_path / "overlap.json").read_text()) == result
    picture = np.asarray(Image.open(tmp_path / "overlap.png"))
    assert picture.std() > 0
    assert "step      4  labeled" in overlap.text(result)


def test_another_run_is_refused(workdir, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(f"{workdir}/{name}", tmp_path / name)
    line = json.dumps({"step": 2, "train/loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="has no overlap.*Fix: name runs of"):
        overlap.run(workdir=str(tmp_path / "out"), runs=[str(tmp_path)])
    with pytest.raises(ValueError, match="--runs="):
        overlap.run(workdir=str(tmp_path / "out"), runs=[])


def test_wrong_option_of_the_second_network_is_named(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    config = miniature.config(folder, "supervised")
    config.second_network = {"name": "fcn", "widht": 4}
    with pytest.raises(ValueError, match="`config.second_network.widht`"):
        train.train(config, str(tmp_path / "run"))
