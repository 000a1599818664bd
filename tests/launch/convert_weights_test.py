# SPDX-License-Identifier: Apache-2.0
import pathlib

from configs import folder_cutmix
from tests import miniature
from tfseg import runs
from tfseg.networks.weights import files
from tfseg.networks.weights.names import base

DATA = pathlib.Path(__file__).parents[1] / "networks" / "weights" / "data"
CONFIG = "--config=configs/folder_cutmix.py"


def test_prints_what_matched_and_where_it_is(tmp_path):
    network = runs.build_network(folder_cutmix.get_config(""), num_classes=4)
    network.encoder.save_weights(str(tmp_path / "ckpt"))
    out = tmp_path / "encoder.weights.h5"
    done = miniature.run(
        "convert_weights",
        CONFIG,
        f"--from={tmp_path / 'ckpt'}",
        f"--to={out}",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[-2:] == ["path", "here"]
    path = "stages/0/0/convolution/kernel"
    assert [path, "[3,", "3,", "3,", "24]", path] in [
        line.split() for line in lines
    ]
    assert lines[-2:] == [
        "30 of 30 variables matched",
        f"Written: {out}, for config.network.weights",
    ]
    found = files.read_own(str(out), network.encoder)
    assert set(found) == set(base.paths(network.encoder))


def test_a_malicious_file_is_one_line_and_1(tmp_path):
    done = miniature.run(
        "convert_weights",
        CONFIG,
        f"--from={DATA / 'malicious.pth'}",
        f"--to={tmp_path / 'x'}",
    )
    assert done.returncode == 1
    assert "wants to run 'posix.system': refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_from_and_to_are_required():
    done = miniature.run("convert_weights", CONFIG)
    assert done.returncode == 1
    assert "--from" in done.stderr + done.stdout
