# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg import id_lists

KNOWN = {"a": 0, "b/c": 1, "d.png": 2, "zebra_1": 3}


def _read(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    return id_lists.read_ids(str(path), KNOWN)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"b/c\na\n", ("b/c", "a")),
        (b"a\r\n\r\n  # a comment\r\nb/c", ("a", "b/c")),
        (b"\xef\xbb\xbfa.JPG\nb/c.jpeg\n", ("a", "b/c")),
        # An id that itself ends like a file; d alone does not exist.
        (b"d.png\n", ("d.png",)),
        (b"d.png.jpg\n", ("d.png",)),
        (b"# nothing\n\n", ()),
    ],
)
def test_ids_are_read(tmp_path, content, expected):
    assert _read(tmp_path, content) == expected


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a\nzebra_2\n", "line 2: .*'zebra_2'. Did you mean 'zebra_1'"),
        (b"a\nb/c\na.jpg\n", "line 3: the id 'a' is there twice.* line 1"),
        (b"../a\n", "'../a' has an empty, '.' or '..' part"),
        (b"b/../a\n", "'..' part"),
        (b"./a\n", "'..' part"),
        (b"b//c\n", "'..' part"),
        (b"/etc/passwd\n", "absolute path"),
        (b"C:/a\n", "absolute path"),
        (b"b\\c\n", "backslash or a NUL"),
        (b"a\0\n", "backslash or a NUL"),
        (b"\xff\xfea\0\n", "not a UTF-8 text file"),
    ],
)
def test_bad_ids_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, content)
    assert "list.txt" in str(error.value) and "Fix: " in str(error.value)


def test_missing_file_is_named(tmp_path):
    path = str(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="none.txt: no such file"):
        id_lists.read_ids(path, KNOWN)


def test_overlap_names_both_lists_and_ids():
    id_lists.check_disjoint({"x": ["a"], "y": ["b"], "z": []})
    with pytest.raises(ValueError, match="x and z share 2 ids: a, b. Fix"):
        id_lists.check_disjoint({"x": "abc", "y": "d", "z": "ba"})


def test_long_lists_are_shortened():
    assert id_lists.shorten([1, 2, 3, 4, 5]) == "1, 2, 3, 4, 5"
    assert id_lists.shorten(range(8)) == "0, 1, 2, 3, 4, ... (3 more)"
