# SPDX-License-Identifier: Apache-2.0
import pytest

from tfseg.datasets.layout import files

LAYOUT = "the folder with a/"


def _touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_root_may_stand_inside(tmp_path):
    (tmp_path / "in" / "deep" / "a").mkdir(parents=True)
    inside = ("in", "in/deep")

    def root(path):
        return files.root(str(path), "a", layout=LAYOUT, inside=inside)

    assert root(tmp_path) == f"{tmp_path}/in/deep"
    assert root(tmp_path / "in/deep") == f"{tmp_path}/in/deep"
    with pytest.raises(
        ValueError, match=r"/in/a: not there; .*/in holds deep\."
    ):
        root(tmp_path / "in")
    with pytest.raises(ValueError, match="a: not there; .* holds in.*with a/"):
        root(tmp_path / "no" / "such")
    with pytest.raises(
        ValueError, match="`--x` is empty. Fix: name the folder"
    ):
        files.root("", "a", layout=LAYOUT, option="`--x`")


def test_named_files_are_sorted_without_other_ones(tmp_path):
    _touch(tmp_path, "i-2.png", "i-10.PNG", "i-3.jpg", ".i-4.png", "x.png")
    found = files.named(str(tmp_path), "i-", ".png", layout=LAYOUT)
    assert found == {
        "10": f"{tmp_path}/i-10.PNG",
        "2": f"{tmp_path}/i-2.png",
    }
    found = files.named(str(tmp_path), "i-", (".png", ".jpg"), layout=LAYOUT)
    assert list(found) == ["10", "2", "3"]


def test_what_a_folder_holds_instead_is_said(tmp_path):
    folder = str(tmp_path / "masks")
    with pytest.raises(ValueError, match="masks: not there; .* is empty. Fix"):
        files.named(folder, "", ".png", layout=LAYOUT)
    _touch(tmp_path / "masks", *(f"{i}.txt" for i in range(7)), ".hidden")
    with pytest.raises(
        ValueError, match=r"masks: no file \*.png; it holds 0.txt, .*2 more"
    ):
        files.named(folder, "", ".png", layout=LAYOUT)


@pytest.mark.parametrize(
    "text",
    ["b\na\n", "\ufeffb\r\n\r\na\r\n", "/J/b.jpg /M/b.png\n/J/a.jpg /M/a.png"],
)
def test_lists_of_ids_or_paths(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    assert files.read_list(str(path), layout=LAYOUT) == ("b", "a")


@pytest.mark.parametrize(
    "text, message",
    [("\n", "lists no id"), ("a\nb\na\n", "twice: a"), (None, "not there")],
)
def test_bad_list_is_refused(tmp_path, text, message):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"list.txt: .*{message}.*Fix: "):
        files.read_list(str(path), layout=LAYOUT)
