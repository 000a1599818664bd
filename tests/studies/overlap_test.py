# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from PIL import Image

from configs import cross_supervision
from tests import miniature
from tfseg import train
from tfseg.studies import overlap


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The workdir of a run of CPS with CutMix."""
    root = tmp_path_factory.mktemp("overlap")
    config = miniature.config(miniature.make_folder(root / "data"))
    config.method = cross_supervision.get("cps_cutmix")
    config.train.steps = 4
    train.train(config, str(root / "run"))
    return root / "run"


def test_curves_are_what_training_logged(pair, tmp_path):
    result = overlap.run(workdir=str(tmp_path), runs=[str(pair)])
    (curves,) = result.values()
    rows = [
        json.loads(line)
        for line in (pair / "metrics.jsonl").read_text().splitlines()
    ]
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


def test_another_run_is_refused(pair, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_text((pair / name).read_text())
    line = json.dumps({"step": 2, "train/loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="has no overlap.*Fix: name runs of"):
        overlap.run(workdir=str(tmp_path / "out"), runs=[str(tmp_path)])
    with pytest.raises(ValueError, match="--runs="):
        overlap.run(workdir=str(tmp_path / "out"), runs=[])
