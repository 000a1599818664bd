# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg.datasets.classes import image_labels

NAMES = ("background", "cat", "hot dog")
IDS = {"a", "b c", "d/e", "f"}


def _read(tmp_path, text):
    path = tmp_path / "image_labels.txt"
    path.write_text(text, encoding="utf-8")
    return image_labels.read(str(path), IDS, NAMES)


def test_ids_and_names_may_hold_spaces(tmp_path):
    text = (
        "# what is to be seen\n\nb c\thot dog, cat\r\n"
        "d/e\t cat,cat ,background\nf\t\n"
    )
    assert _read(tmp_path, text) == {"b c": (1, 2), "d/e": (1,), "f": ()}


def test_an_id_may_begin_with_a_hash(tmp_path):
    path = tmp_path / "image_labels.txt"
    path.write_text("#7\tcat\n#8\tcat\n# a comment\n")
    assert image_labels.read(str(path), {"#7", "a"}, NAMES) == {"#7": (1,)}


@pytest.mark.parametrize(
    "text, message",
    [
        ("a cat\n", "line 1: malformed: 'a cat'. Fix: write the id, a tab"),
        ("\na\tdog\n", "line 2: unknown class 'dog'.*Available: background"),
        ("g\tcat\n", "line 1: 'g' is no image"),
        ("a\tcat\na\tcat\n", "line 2: 'a' is there twice"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, text)


def test_a_missing_file_says_what_to_write(tmp_path):
    with pytest.raises(ValueError, match="image_labels` is True. Fix: write"):
        image_labels.read(str(tmp_path / "image_labels.txt"), IDS, NAMES)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "image_labels.txt"
    path.write_bytes("b c\tStra\u00dfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="image_labels.txt: not a UTF-8.*Fix:"):
        image_labels.read(str(path), IDS, NAMES)
