# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from tfseg import id_lists

KNOWN = {"a": 0, "b/c": 1, "d.png": 2, "zebra_1": 3, "my dog": 4, "e/my cat": 5}
VOC = {"2007_000032", "2007_000039", "2008_000002"}
CITIES = {"jena_000078_000019", "aachen_000000_000019", "ulm_000001_000019"}


def _read(tmp_path, content, known=KNOWN):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    return id_lists.read_ids(str(path), known)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"b/c\na\n", ("b/c", "a")),
        (b"a\r\n\r\n  # a comment\r\nb/c", ("a", "b/c")),
        (b"\xef\xbb\xbfa.JPG\nb/c.jpeg\n", ("a", "b/c")),
        # An id that itself ends like a file; d alone does not exist.
        (b"d.png\n", ("d.png",)),
        (b"d.png.jpg\n", ("d.png",)),
        (b"images/d.png\n", ("d.png",)),
        (b"# nothing\n\n", ()),
        (b"", ()),
        (b"my dog\ne/my cat\n", ("my dog", "e/my cat")),
        (b"/images/my dog.jpg /labels/my dog.png", ("my dog",)),
        (b"images/my dog.jpg\timages/e/my cat.png", ("my dog",)),
        (b"images/my dog \t b/c", ("my dog",)),
        # What follows the image is not read.
        (b"images/a.jpg b/c.png 1\nzebra_1\tb/c", ("a", "zebra_1")),
        (b"/data/set/images/e/my cat.PNG  x", ("e/my cat",)),
        (b"C:/data/a.jpg", ("a",)),
        # The id may be the longer of the two.
        (b"c\nmy cat.jpg\n", ("b/c", "e/my cat")),
    ],
)
def test_ids_are_read(tmp_path, content, expected):
    assert _read(tmp_path, content) == expected


_CITY = "leftImg8bit/train/{0}/{0}_{1}_leftImg8bit.png"
_CITY_MASK = "gtFine/train/{0}/{0}_{1}_gtFine_labelTrainIds.png"


@pytest.mark.parametrize(
    "line, end",
    [
        # CPS, PseudoSeg, AdvSemiSeg; with a BOM.
        ("2007_{0}", "\n"),
        ("2007_{0}", "\r\n"),
        # CCT and CAC, UniMatch, ST++.
        ("/JPEGImages/2007_{0}.jpg /SegmentationClassAug/2007_{0}.png", "\n"),
        ("JPEGImages/2007_{0}.jpg SegmentationClassAug/2007_{0}.png", "\r\n"),
        ("JPEGImages/2007_{0}.jpg SegmentationClass/2007_{0}.png", "\n"),
        # A list of somebody's own machine, and only images.
        ("/home/me/VOC2012/JPEGImages/2007_{0}.jpg", "\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", None])
def test_published_lists_of_voc(tmp_path, line, end, mark, last):
    lines = [line.format("000039"), line.format("000032")]
    text = mark + end.join(lines) + (end if last is None else last)
    ids = _read(tmp_path, text.encode(), VOC)
    assert ids == ("2007_000039", "2007_000032")


@pytest.mark.parametrize(
    "line",
    [
        "{0}_{1}",
        # CPS: flat folders, a tab.
        "/images/train/{0}_{1}.png\t/segmentation/train/{0}_{1}_gtFine.png",
        # CPS, lists of coarse labels.
        "/images/train_extra/{0}_{1}.png\t/segmentation/{0}_{1}_gtCoarse.png",
        # CAC and UniMatch, U2PL, mmsegmentation.
        f"{_CITY} {_CITY_MASK}",
        _CITY,
        "{0}/{0}_{1}",
    ],
)
def test_published_lists_of_cityscapes(tmp_path, line):
    names = [("ulm", "000001_000019"), ("jena", "000078_000019")]
    text = "\n".join(line.format(*name) for name in names)
    ids = _read(tmp_path, text.encode(), CITIES)
    assert ids == ("ulm_000001_000019", "jena_000078_000019")
    # The same where somebody has put the download below images/ as it is.
    known = {
        f"train/{city}/{city}_{number}{ending}"
        for (city, number), ending in zip(names, ["_leftImg8bit"] * 2)
    }
    if line.startswith("leftImg8bit"):
        ids = _read(tmp_path, text.encode(), known)
        assert [i.split("/")[1] for i in ids] == ["ulm", "jena"]


def test_published_lists_of_other_data_sets(tmp_path):
    known = {"000000177254", "0001TP_006690", "ISIC_0000013"}
    text = (
        "train2017/000000177254\n"  # PseudoSeg.
        "/SegNet/CamVid/train/0001TP_006690.png "
        "/SegNet/CamVid/trainannot/0001TP_006690.png\n"
        "ISIC_0000013.jpg ISIC_0000013_segmentation.png\n"
    )
    ids = _read(tmp_path, text.encode(), known)
    assert ids == ("000000177254", "0001TP_006690", "ISIC_0000013")


def test_a_line_that_is_an_id_wins(tmp_path):
    known = {"x", "a/x", "b/a/x", "# x", " x", "y.jpg z", "y"}
    for last in (b"y.jpg z", b"y.jpg z.png"):
        for end in (b"\n", b"\r\n"):
            text = end.join([b"x", b"a/x.jpg", b"# x", b" x", last, b""])
            ids = _read(tmp_path, text, known)
            assert ids == ("x", "a/x", "# x", " x", "y.jpg z")
    assert _read(tmp_path, b"/a/x.png\tm.png", known) == ("a/x",)


@pytest.mark.parametrize(
    "known, line, one, other",
    [
        ({"a/x", "b/x"}, "x", "a/x", "b/x"),
        ({"a/x", "b/x", "c/x"}, "x.jpg y.png", "a/x", "b/x"),
        ({"x", "a/x"}, "images/a/x.jpg", "a/x", "x"),
        ({"d", "d.png"}, "images/d.png", "d", "d.png"),
        ({"u", "u_leftImg8bit"}, "t/u_leftImg8bit.png", "u", "u_leftImg8bit"),
    ],
)
def test_a_line_that_fits_two_ids_names_both(tmp_path, known, line, one, other):
    message = f"list.txt, line 1: '{line}' fits the ids '{one}' and '{other}'"
    with pytest.raises(ValueError, match=f"{message}. Fix: write the id"):
        _read(tmp_path, line.encode(), known)


def test_parts_of_names_fit_nothing(tmp_path):
    known = {"2007_000032", "b/c"}
    for line in (
        "000032",
        "12007_000032",
        "images/2007_000032_x.jpg",
        "a/b",
        "a/c",
        "2007_000032 -1",
        "x.jpg 2007_000032.png",
    ):
        with pytest.raises(ValueError, match="line 1: there is no image"):
            _read(tmp_path, line.encode(), known)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a\nzebra_2\n", "line 2: .*'zebra_2'. Did you mean 'zebra_1'"),
        (b"x/y/zebra_2.jpg m.png", "Did you mean 'zebra_1'.*looks like 'a'"),
        (b"a\nb/c\na.jpg\n", "line 3: the id 'a' is there twice.* line 1"),
        (b"a\n\n/x/a.jpg a.png\n", "line 3: the id 'a' is there .* line 1"),
        (b"a\nq\nd.png\nr\ns", "line 2: .*path 'q'. 2 more lines name no"),
        (b"../a\n", "'../a' has an empty, '.' or '..' part"),
        (b"b/../a\n", "'..' part"),
        (b"./a\n", "'..' part"),
        (b"b//c\n", "'..' part"),
        (b"//a\n", "'..' part"),
        (b"/etc/passwd\n", "line 1: .*path '/etc/passwd'"),
        (b"b\\c\n", "backslash or a NUL"),
        (b"a\0\n", "backslash or a NUL"),
        (b"\xff\xfea\0\n", "not a UTF-8 text file"),
    ],
)
def test_bad_ids_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, content)
    assert "list.txt" in str(error.value) and "Fix: " in str(error.value)


def test_paths_are_never_opened(tmp_path, monkeypatch):
    image = tmp_path / "images" / "a.jpg"
    image.parent.mkdir()
    image.write_bytes(b"")
    opened, really_open = [], open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *rest: opened.append(path) or really_open(path, *rest),
    )
    assert _read(tmp_path, f"{image} {image}\n".encode()) == ("a",)
    assert opened == [str(tmp_path / "list.txt")]


def test_file_that_cannot_be_read_is_named(tmp_path):
    path = str(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="none.txt: no such file"):
        id_lists.read_ids(path, KNOWN)
    with pytest.raises(ValueError, match=f"{tmp_path}: is a directory. Fix"):
        id_lists.read_ids(str(tmp_path), KNOWN)


@pytest.mark.parametrize(
    "name, line",
    [
        ("{:06}", "{:06}"),
        ("{:06}", "/JPEGImages/{0:06}.jpg /SegmentationClass/{0:06}.png"),
        # All have the same name in folders of their own.
        ("{:06}/rgb", "/images/{:06}/rgb.png\tm.png"),
        ("a/{:06}/rgb", "{:06}/rgb"),
    ],
)
def test_long_lists_take_linear_time(tmp_path, name, line):
    """A quarter of a second; each line against each id would take minutes."""
    known = {name.format(i) for i in range(30_000)}
    text = "\n".join(line.format(i) for i in range(30_000))
    start = time.perf_counter()
    assert len(_read(tmp_path, text.encode(), known)) == 30_000
    assert time.perf_counter() - start < 10


def test_overlap_names_both_lists_and_ids():
    id_lists.check_disjoint({"x": ["a"], "y": ["b"], "z": []})
    with pytest.raises(ValueError, match="x and z share 2 ids: a, b. Fix"):
        id_lists.check_disjoint({"x": "abc", "y": "d", "z": "ba"})


def test_long_lists_are_shortened():
    assert id_lists.shorten([1, 2, 3, 4, 5]) == "1, 2, 3, 4, 5"
    assert id_lists.shorten(range(8)) == "0, 1, 2, 3, 4, ... (3 more)"
