# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tests import miniature
from tfseg import compare, train


@pytest.fixture
def folder(tmp_path):
    folder = miniature.make_folder(tmp_path / "mine")
    (folder / "splits").mkdir()
    (folder / "splits" / "test.txt").write_text("im00\nim01\n")
    return folder


def _configs(folder, **changes):
    def get(method):
        return lambda seed: miniature.config(
            folder, method, seed=seed, train__steps=2, **changes
        )

    return {"floor": get("supervised"), "ours": get("cutmix")}


def test_compares_and_goes_on(folder, tmp_path, monkeypatch):
    workdir = str(tmp_path / "runs")
    first = compare.compare(_configs(folder), [3, 4], workdir)
    assert list(first) == ["floor", "ours"]
    assert [len(rows) for rows in first.values()] == [2, 2]
    written = json.load(open(tmp_path / "runs" / "comparison.json"))
    assert written == {"seeds": [3, 4], "results": first}
    config = json.load(open(tmp_path / "runs" / "ours" / "4" / "config.json"))
    assert config["seed"] == 4 and config["method"]["name"] == "mean_teacher"

    def fail(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(train, "train", fail)
    assert compare.compare(_configs(folder), [3, 4], workdir) == first
    with pytest.raises(ValueError, match="config.train.labeled_batch: 2 -> 1"):
        compare.compare(_configs(folder, train__labeled_batch=1), [3], workdir)


def test_table_has_means_and_differences_seed_by_seed():
    def rows(*miou):
        return [{"miou": m, "validation_miou": m, "seconds": 7} for m in miou]

    results = {"floor": rows(0.2, 0.4), "ours": rows(0.5, 0.6)}
    _, floor, ours = compare.table(results).splitlines()
    assert floor.split() == ["floor", *"30.0 +- 14.1".split() * 2, "7"]
    # +30 and +20
    assert ours.split()[-4:] == ["+25.0", "+-", "7.1", "7"]
    assert compare.spread([0.5]) == "50.0"


def test_table_of_runs_that_never_validated():
    rows = [{"miou": 0.5, "validation_miou": None, "seconds": 7}]
    row = compare.table({"floor": rows}).splitlines()[1]
    assert row.split() == ["floor", "-", "50.0", "7"]


def test_script(folder, tmp_path):
    path = "configs/folder_supervised.py"
    words = [
        f"--configs={path},{path}:labels=3",
        f"--arg=dir={folder},crop=16,steps=1",
        "--seeds=0",
        f"--workdir={tmp_path / 'runs'}",
    ]
    done = miniature.run("compare", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert lines == ["folder_supervised", "folder_supervised-3"]
    # An argument of its own, in a folder of its own.
    for row, labels in zip(lines, (0, 3)):
        workdir = tmp_path / "runs" / row / "0"
        config = json.loads((workdir / "config.json").read_text())
        assert config["split"]["num_labeled"] == labels
    for wrong in ("configs/nothing.py", "configs", "setup.cfg"):
        words[0] = f"--configs={wrong}"
        done = miniature.run("compare", *words)
        assert done.returncode == 1
        assert f"{wrong}: no such config file" in done.stderr
    own = tmp_path / "mine.py"
    own.write_text(
        "from configs import folder_supervised\n\n\n"
        "def get_config(arg):\n"
        "    config = folder_supervised.get_config(arg)\n"
        "    config.train.steps = 0\n"
        "    return config\n"
    )
    for value, message in (
        (f"--configs={own}", "config.train.steps"),
        (f"--configs={path}:labels=3,{path}:seed=3", "be the row folder_supe"),
        (f"--configs={path} --seeds=1,1", "no two the same"),
        (f"--configs={path} --seeds=0 more", "Unexpected words: more"),
    ):
        done = miniature.run("compare", *words[1:], *value.split(" "))
        assert done.returncode == 1 and message in done.stderr


def test_mistakes_come_before_the_first_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *args: pytest.fail("trained"))
    configs = _configs(folder, split__test_file="")
    (folder / "splits" / "test.txt").unlink()
    with pytest.raises(ValueError, match="mine has no test images"):
        compare.compare(configs, [3], str(tmp_path / "runs"))
    (folder / "splits" / "test.txt").write_text("im00\n")
    configs["last"] = lambda seed: miniature.config(folder, train__steps=-1)
    with pytest.raises(ValueError, match="config.train.steps"):
        compare.compare(configs, [3], str(tmp_path / "runs"))
