# SPDX-License-Identifier: Apache-2.0
import html.parser
import json
import os
import re
import types

import numpy as np
import pytest
from PIL import Image

from configs import digits_supervised
from tests import faults, miniature
from tfseg import examples, inspection, inspection_page, train
from tfseg.data import check
from tfseg.data.checks import kinds
from tfseg.datasets import digits, folder


def _config(path, **overrides):
    overrides = {"split__validation_fraction": 0.2, **overrides}
    return miniature.config(path, **overrides)


@pytest.fixture(name="bad", scope="module")
def _bad(tmp_path_factory):
    """(folder, report, folder of the report) of all faults."""
    path = faults.make_folder(tmp_path_factory.mktemp("data") / "bad")
    out = str(tmp_path_factory.mktemp("report") / "a" / "b")
    return path, inspection.inspect(_config(path), out), out


def test_every_planted_fault_is_found(bad):
    path, report, _ = bad
    found = list(report["findings"])
    for severity, planted in (
        ("error", faults.ERRORS),
        ("warning", faults.WARNINGS),
        ("note", faults.NOTES),
    ):
        for kind, (file, words, fix) in planted.items():
            kind = "unknown_ids" if kind == "gray_colors" else kind
            here = os.path.join(str(path), file).rstrip("/")
            (finding,) = [
                x for x in found if (x["kind"], x["file"]) == (kind, here)
            ]
            found.remove(finding)
            assert finding["severity"] == severity
            assert finding["value"] is not None
            for word in words:
                assert word in finding["message"], finding
            assert fix in finding["fix"], finding
    assert found == []


def test_the_most_serious_come_first(bad):
    _, report, _ = bad
    severities = [x["severity"] for x in report["findings"]]
    order = [kinds.SEVERITIES.index(severity) for severity in severities]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    assert report["counts"] == {
        "images": 24,
        "labeled": 16,
        "error": len(faults.ERRORS),
        "warning": len(faults.WARNINGS),
        "note": len(faults.NOTES),
    }


def test_training_refuses_the_errors_in_the_same_words(bad, tmp_path):
    path, report, _ = bad
    errors = [x for x in report["findings"] if x["severity"] == "error"]
    lines = {f"{x['file']}: {x['message']}. Fix: {x['fix']}." for x in errors}
    with pytest.raises(ValueError) as images:
        train.train(_config(path), str(tmp_path / "run"))
    # Masks are looked at when the images are in order.
    broken = [x["file"] for x in errors if "/images/" in x["file"]]
    contents = {file: open(file, "rb").read() for file in broken}
    for file in broken:
        Image.new("RGB", (64, 64)).save(file)
    try:
        with pytest.raises(ValueError) as masks:
            train.train(_config(path), str(tmp_path / "run"))
    finally:
        for file in broken:
            open(file, "wb").write(contents[file])
    said = f"{images.value}\n{masks.value}".split("\n")
    assert set(said) == lines and len(said) == len(lines)


def test_training_takes_warnings_and_notes(tmp_path):
    path = faults.make_warnings(tmp_path / "mine")
    config = _config(path)
    report = inspection.inspect(config, str(tmp_path / "out"))
    assert report["counts"]["error"] == 0
    assert report["counts"]["warning"] == len(faults.WARNINGS)
    split = examples.checked_split(config, examples.open_dataset(config))
    assert report["split"] == {
        "labeled": len(split.labeled),
        "unlabeled": len(split.unlabeled),
        "validation": 4,
        "test": 0,
        "digest": split.digest(),
    }


def test_clean_folder_yields_nothing(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=32)
    report = inspection.inspect(_config(path), str(tmp_path / "out"))
    assert report["findings"] == []
    lines = inspection.text(report).splitlines()
    assert lines[0].split() == "class masks pixels training validation".split()
    assert lines[-1].startswith("0 errors, 0 warnings, 0 notes in 12 images")
    page = (tmp_path / "out" / "inspection.html").read_text()
    assert "<p>None.</p>" in page
    assert "Examples without a finding" in page


_NUMBER = (int, float)
_SCHEMA = {
    "version": int,
    "data": {"name": str, "dir": str},
    "counts": dict.fromkeys(
        ("images", "labeled", "error", "warning", "note"), int
    ),
    "split": {
        **dict.fromkeys(("labeled", "unlabeled", "validation", "test"), int),
        "digest": (str, type(None)),
    },
    "classes": [
        {
            "label": int,
            "name": str,
            "color": [int],
            "pixels": int,
            "masks": int,
            "share": float,
            "share_training": float,
            "share_validation": float,
        }
    ],
    "sizes": {"crop": [int], "smaller_than_crop": int, "images": [[int]]},
    "findings": [
        {
            "severity": str,
            "kind": str,
            "file": str,
            "value": (int, str, list),
            "message": str,
            "fix": str,
        }
    ],
    "versions": dict.fromkeys(
        ("python", "tfseg", "tensorflow", "numpy", "pillow"),
        (str, type(None)),
    ),
    "seconds": _NUMBER,
}


def _check_schema(value, schema):
    if isinstance(schema, dict):
        assert value.keys() == schema.keys()
        for name, inner in schema.items():
            _check_schema(value[name], inner)
    elif isinstance(schema, list):
        assert isinstance(value, list) and value
        for item in value:
            _check_schema(item, schema[0])
    else:
        assert isinstance(value, schema), (value, schema)


def test_json_is_what_was_returned(bad):
    _, report, out = bad
    with open(os.path.join(out, "inspection.json"), encoding="utf-8") as file:
        written = json.load(file)
    assert written == report
    _check_schema(written, _SCHEMA)
    assert sorted(os.listdir(out)) == ["inspection.html", "inspection.json"]
    ground = report["classes"][0]
    assert ground["name"] == "ground" and ground["share"] > 0.5
    assert sum(x["share"] for x in report["classes"]) == pytest.approx(1)
    assert report["sizes"]["images"][0] == [64, 64, 20]


class _Page(html.parser.HTMLParser):
    """Collects tags with their attributes and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _check_self_contained(page):
    parsed = _Page(page)
    assert parsed.open == []
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data"):
                assert value.startswith("data:image/jpeg;base64,")
    assert not re.search(r"url\(|@import|https?:", page)
    return parsed


def test_page_needs_nothing_else(bad):
    _, report, out = bad
    with open(os.path.join(out, "inspection.html"), encoding="utf-8") as file:
        page = file.read()
    assert len(page) < 2_000_000
    parsed = _check_self_contained(page)
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("img") > 20 and "svg" in tags
    assert "crop 16 x 16" in parsed.text
    for finding in report["findings"]:
        assert finding["message"] in parsed.text
        assert kinds.KINDS[finding["kind"]][1] in parsed.text


def test_names_are_escaped(tmp_path):
    path = miniature.make_folder(tmp_path / "a<i>&\"'", size=32)
    name = "<b>&.png"
    Image.open(path / "images" / "im00.png").save(path / "images" / name)
    (path / "classes.txt").write_text("<u>\n&amp;\ngreen\n")
    report = inspection.inspect(_config(path), str(tmp_path / "out"))
    (finding,) = report["findings"]
    assert finding["kind"].startswith("exact_")
    assert finding["file"].endswith(name) or finding["value"].endswith(name)
    parsed = _check_self_contained(
        (tmp_path / "out" / "inspection.html").read_text()
    )
    assert not {"b", "i", "u"} & {tag for tag, _ in parsed.tags}
    assert finding["file"] in parsed.text
    assert "0 <u>" in parsed.text and "1 &amp;" in parsed.text


def test_names_that_are_no_utf_8(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=32)
    name = path / "images" / os.fsdecode(b"caf\xe9.png")
    Image.open(path / "images" / "im00.png").save(name)
    out = tmp_path / "out"
    done = miniature.run("inspect", f"--dir={path}", f"--out={out}")
    assert r"caf\udce9.png': the file name is not UTF-8. Fix" in done.stdout
    assert "Written: " in done.stdout, done.stderr
    assert r"caf\udce9.png" in (out / "inspection.html").read_text()
    report = json.loads((out / "inspection.json").read_text())
    assert str(name) in {x["file"] for x in report["findings"]}
    assert sorted(os.listdir(out)) == ["inspection.html", "inspection.json"]


def test_page_of_noise_stays_small(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=32)
    draw = np.random.default_rng(0)
    for i in range(60):
        pixels = draw.integers(0, 256, (300, 300, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 3 if i % 2 else 6
        image = Image.fromarray(pixels).convert("CMYK" if i % 3 else "RGB")
        image.save(path / "images" / f"{i}.jpg", exif=exif)
    inspection.inspect(_config(path), str(tmp_path / "out"))
    size = os.path.getsize(tmp_path / "out" / "inspection.html")
    assert size < 2_000_000


def test_unlabeled_images_alone(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", labeled=0, size=32)
    # In a folder that is a link, as a data set may have.
    (tmp_path / "more").mkdir()
    (path / "images" / "linked").symlink_to(tmp_path / "more")
    Image.open(path / "images" / "im00.png").save(tmp_path / "more" / "x.png")
    report = inspection.inspect(_config(path), str(tmp_path / "out"))
    assert [x["kind"] for x in report["findings"]] == [
        "setup",
        "exact_repeat",
    ]
    setup = report["findings"][0]
    with pytest.raises(ValueError) as error:
        folder.build(dir=str(path))
    assert f"{setup['message']}. Fix: {setup['fix']}." == str(error.value)
    assert report["split"] is None and report["classes"] == []
    assert report["counts"]["images"] == 7
    assert "The data set or its split" in inspection.text(report)


def test_split_that_cannot_be_made_does_not_stop_it(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=32)
    (path / "images" / "im03.png").write_text("no image")
    config = _config(path, split__num_labeled=50)
    report = inspection.inspect(config, str(tmp_path / "out"))
    assert [x["kind"] for x in report["findings"]] == ["setup", "no_image"]
    assert "num_labeled=50" in report["findings"][0]["message"]
    assert report["split"] is None


def test_nothing_to_look_at_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        inspection.inspect(_config(tmp_path / "no"), str(tmp_path / "out"))
    config = _config(tmp_path / "no", data__records="packed")
    with pytest.raises(ValueError, match="`config.data.records` is packed"):
        inspection.inspect(config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_masks_of_0_and_255(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=32)
    (path / "classes.txt").write_text("ground\ndisc\n")
    for file in (path / "labels").iterdir():
        mask = np.asarray(Image.open(file)) > 0
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(file)
    report = inspection.inspect(_config(path), str(tmp_path / "out"))
    found = [x["kind"] for x in report["findings"]]
    assert found == ["binary_255"] * 6 + ["never_labeled"]
    assert report["findings"][0]["value"] == [0, 255]
    assert "save it as 1" in report["findings"][0]["fix"]


def test_damage_that_training_meets_later_has_the_same_words(tmp_path):
    path = miniature.make_folder(tmp_path / "mine", size=64)
    image = path / "images" / "im09.png"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 0xFF
    image.write_bytes(content)
    report = inspection.inspect(_config(path), str(tmp_path / "out"))
    (finding,) = report["findings"]
    (met,) = check.find_undecodable([str(image)])
    assert finding["severity"] == "error"
    assert inspection.text(report).splitlines()[1].strip() == str(met)


def test_other_data_sets(tmp_path):
    path = str(tmp_path / "digits")
    digits.prepare(dir=path, num_train=40, num_validation=6, num_test=5)
    config = digits_supervised.get_config(f"dir={path},labels=30")
    report = inspection.inspect(config, str(tmp_path / "out"))
    assert report["data"] == {"name": "digits", "dir": path}
    assert report["counts"]["error"] == 0
    assert report["split"]["test"] == 5 and report["split"]["labeled"] == 30
    assert {x["kind"] for x in report["findings"]} <= {
        "never_labeled",
        "not_in_training",
    }


def test_many_findings_of_a_kind_are_cut():
    finding = {
        "severity": "warning",
        "kind": "turned",
        "value": 6,
        "message": "m",
        "fix": "f",
    }
    report = {
        "findings": [{**finding, "file": f"{i}.jpg"} for i in range(1200)],
        "classes": [],
        "counts": dict.fromkeys(("images", "labeled", *kinds.SEVERITIES), 0),
        "seconds": 1.0,
        "split": None,
        "sizes": {"crop": [1, 1], "smaller_than_crop": 0, "images": []},
        "data": {"name": "x", "dir": "y"},
        "versions": {},
    }
    lines = inspection.text(report).splitlines()
    assert "(1,200)" in lines[0] and len(lines) == 13
    assert lines[11] == "  ... and 1,190 more"
    page = inspection_page.render(report, types.SimpleNamespace(records={}))
    assert "1,150 more in inspection.json" in _Page(page).text
