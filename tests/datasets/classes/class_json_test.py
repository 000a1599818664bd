# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tfseg.datasets import base
from tfseg.datasets.classes import class_json


def _read(tmp_path, content):
    """(names, palette, mask code) of a file with the content."""
    path = tmp_path / "classes.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    names, palette, code = class_json.read(str(path))
    colors = palette or base.voc_palette(len(names))
    return names, palette, code(base.Info("x", names, colors))


def test_names_alone_are_in_the_order_of_the_values(tmp_path):
    names, palette, code = _read(tmp_path, ["sky", "traffic light", "15"])
    assert names == ("sky", "traffic light", "15")
    assert palette is None
    assert code == base.Info("x", names, base.voc_palette(3)).mask_code()


def test_values_with_gaps_become_consecutive_labels(tmp_path):
    """As COCO-Stuff: 182 values of which 171 are classes."""
    gaps = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    values = [value for value in range(182) if value not in gaps]
    content = {str(value): f"class {value}" for value in reversed(values)}
    names, palette, code = _read(tmp_path, content)
    assert len(names) == 171 and palette is None
    assert names[10] == "class 10" and names[11] == "class 12"
    assert code.index_labels[10] == 10
    assert code.index_labels[12] == 11
    assert code.index_labels[181] == 170
    assert code.index_labels[255] == 255
    assert {code.index_labels[gap] for gap in gaps} == {-1}
    assert set(code.index_labels[182:255]) == {-1}


def test_objects_with_ids_colors_and_ignored_ones(tmp_path):
    names, palette, code = _read(
        tmp_path,
        [
            {"name": "car", "id": 26, "color": [0, 0, 142], "isthing": 1},
            {"name": "road", "id": 7, "color": [128, 64, 128]},
            {"name": "static", "id": 4, "ignore": True, "color": [0, 0, 0]},
            {"name": "ego", "id": 1, "ignore": True, "color": [0, 0, 0]},
            {"name": "ground", "id": 6, "ignore": True},
        ],
    )
    assert names == ("road", "car")
    assert palette == ((128, 64, 128), (0, 0, 142))
    table = code.index_labels
    assert (table[7], table[26]) == (0, 1)
    assert table[1] == table[4] == table[6] == table[255] == 255
    assert table[0] == table[2] == -1
    colors = dict(zip(code.colors, code.color_labels))
    assert colors == {
        (128, 64, 128): 0,
        (0, 0, 142): 1,
        (0, 0, 0): 255,
        (224, 224, 192): 255,
    }


def test_without_ids_the_place_is_the_value(tmp_path):
    content = [{"name": "void", "ignore": True}, {"name": "a"}, {"name": "b"}]
    names, _, code = _read(tmp_path, content)
    assert names == ("a", "b")
    assert code.index_labels[:4] == (255, 0, 1, -1)


def test_color_of_an_ignored_class_counts_among_colors_alone(tmp_path):
    """Else it might be that of a class in the palette that stands in."""
    content = [{"name": "void", "ignore": True, "color": [0, 0, 0]}, "a"]
    content[1] = {"name": "a"}
    _, palette, code = _read(tmp_path, content)
    assert palette is None
    assert code.colors == ((0, 0, 0), (224, 224, 192))
    assert code.color_labels == (0, 255)


def _object(**values):
    return [{"name": "a", **values}]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not valid JSON"),
        ("7", "not a list of classes"),
        ("[]", "no classes"),
        (["a", {"name": "b"}], "not a list of classes"),
        (["a", "b", "a"], "classes 0 and 2 have the same name 'a'"),
        (["a", " "], "' ' is not the name of a class"),
        ({"one": "a"}, "'one' is not a value of a mask"),
        ({"1": 2}, "2 is not the name of a class"),
        ('{"1": "a", "1": "b"}', "have the same mask value 1"),
        ({"255": "a"}, "mask values outside 0..254: 255"),
        (_object(id=300), "mask values outside 0..254: 300"),
        (_object(id=-1), "mask values outside 0..254: -1"),
        (_object(id="3"), "'a' has the id '3'"),
        (_object(id=True), "'a' has the id True"),
        (_object(colour=[1, 2, 3]), "unknown keys: colour"),
        (_object(color=[1, 2]), r"'a' has the color \[1, 2\]"),
        (_object(color=[1, 2, 256]), r"'a' has the color \[1, 2, 256\]"),
        (_object(ignore="yes"), "'a' has the ignore 'yes'"),
        (_object(ignore=True), "no classes"),
        ([{"id": 3}], "None is not the name of a class"),
        (
            [{"name": "a", "id": 1}, {"name": "b"}],
            "'b' has no id but others have",
        ),
        (
            [{"name": "a", "color": [1, 2, 3]}, {"name": "b"}],
            "class 'b' has no color but others have",
        ),
        (
            [{"name": n, "color": [1, 2, 3]} for n in "ab"],
            "classes 0 and 1 have the same color",
        ),
        (
            [
                {"name": "a", "color": [1, 2, 3]},
                {"name": "b", "color": [1, 2, 3], "ignore": True},
            ],
            r"'b' is ignored but has the color \(1, 2, 3\) of a class",
        ),
        ([f"c{i}" for i in range(256)], "mask values outside 0..254: 255"),
    ],
)
def test_malformed_file_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, content)
    assert "classes.json" in str(error.value) and "Fix: " in str(error.value)
