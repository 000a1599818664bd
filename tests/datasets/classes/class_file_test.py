# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg.datasets.classes import class_file


def _read(tmp_path, content):
    path = tmp_path / "classes.txt"
    path.write_bytes(content.encode())
    return class_file.read(str(path))


def test_names_alone(tmp_path):
    content = "# comment\n \t# indented\n"
    content += "sky\r\ntraffic light\nlane 1\n7\nroad, paved\n\n\n"
    names, palette = _read(tmp_path, content)
    assert names == ("sky", "traffic light", "lane 1", "7", "road, paved")
    assert palette is None


def test_names_and_colors(tmp_path):
    content = "sky 0 0 0\ntraffic light 1 2 3\nlane 1 4 5 6\na,7,8,9\n"
    content += "b, c , 10 , 11,255\n3 0 0 1\n"
    names, palette = _read(tmp_path, content)
    assert names == ("sky", "traffic light", "lane 1", "a", "b, c", "3")
    assert palette == (
        (0, 0, 0),
        (1, 2, 3),
        (4, 5, 6),
        (7, 8, 9),
        (10, 11, 255),
        (0, 0, 1),
    )


@pytest.mark.parametrize(
    "content, message",
    [
        ("sky\ncar 1 2\n", "line 2: malformed: 'car 1 2'. Fix: write `name`"),
        ("car,1\n", "line 1: malformed: 'car,1'"),
        ("1 2 3\n", "malformed: '1 2 3'"),
        ("car 1 2 256\n", "malformed: 'car 1 2 256'.* in 0..255"),
        ("car -1 2 3\n", "malformed: 'car -1 2 3'"),
        ("sky\n\ncar\n", "line 2: malformed: ''"),
        ("", "line 1: malformed: ''"),
        ("sky\ncar\nsky\n", "classes 0 and 2 have the same name 'sky'"),
        ("a 1 2 3\nb 1 2 3\n", "classes 0 and 1 have the same color"),
        ("a 1 2 3\nb\n", "class 'b' has no color but others have"),
        ("\n".join(f"c{i}x" for i in range(256)), "256 classes.* at most 255"),
    ],
)
def test_malformed_file_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, content)
    assert "classes.txt" in str(error.value) and "Fix: " in str(error.value)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("ground\nStra\u00dfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="classes.txt: not a UTF-8.*Fix:"):
        class_file.read(str(path))
