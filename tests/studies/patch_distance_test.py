# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import miniature
from tfseg import examples, lookup, packed
from tfseg.data import check
from tfseg.studies import patch_distance
from tfseg.studies.patches import distances, sources


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Less of them: to draw one takes longer than all the rest."""
    patch = pytest.MonkeyPatch()
    patch.setattr(patch_distance, "_PICTURES", 1)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return miniature.make_folder(tmp_path_factory.mktemp("data") / "mine")


def _config(folder):
    return miniature.config(folder, "supervised")


def _run(workdir, **options):
    """Result of a run, which is also in its file."""
    result = patch_distance.run(workdir=str(workdir), **options)
    written = json.loads((workdir / "patch_distance.json").read_text())
    assert written == result
    return result


def test_is_found_by_name():
    assert lookup.module("studies", "patch_distance") is patch_distance
    assert "patches" not in lookup.names("studies")


@pytest.fixture(scope="module")
def labeled(folder, tmp_path_factory):
    """(workdir, result) of a labeled data set."""
    workdir = tmp_path_factory.mktemp("runs") / "labeled"
    options = dict(config=_config(folder), patch=5, triplets=40)
    return workdir, _run(workdir, **options)


def test_heat_maps_of_a_data_set(folder, labeled):
    workdir, result = labeled
    values, edges = [], []
    names = [image["name"] for image in result["images"]]
    # The labeled ones.
    assert sorted(names) == [f"im{i:02}" for i in range(6)]
    for image in result["images"]:
        (path,) = (folder / "images").glob(f"{image['name']}.*")
        values.append(
            distances.neighbor_distances(check.read_image(path)[1], 5)
        )
        with Image.open(folder / "labels" / f"{image['name']}.png") as label:
            edges.append(distances.class_edges(np.asarray(label)))
        assert image["mean"] == pytest.approx(values[-1].mean())
        assert image["maximum"] == values[-1].max()
    pictures = [image["picture"] for image in result["images"]]
    (picture,) = filter(None, pictures)
    assert [workdir / picture] == list((workdir / "heat_maps").iterdir())
    with Image.open(workdir / picture) as picture:
        assert min(picture.size) > 200
    values, edges = np.array(values), np.array(edges)
    maps = result["heat_maps"]
    assert maps["mean"] == pytest.approx(values.mean())
    assert maps["edges_mean"] == pytest.approx(values[edges].mean())
    assert maps["elsewhere_mean"] == pytest.approx(values[~edges].mean())
    ratio = values[edges].mean() / values[~edges].mean()
    assert maps["edges_over_elsewhere"] == pytest.approx(ratio)
    # Discs are brighter than the ground.
    assert ratio > 1


def test_triplets_of_a_data_set(labeled):
    workdir, result = labeled
    found = result["triplets"]
    assert found["anchors"] == found["number"] == 40
    assert found["without_positive"] == found["with_zero"] == 0
    inter, intra = (
        np.array(found["distances"][name]) for name in ("inter", "intra")
    )
    assert len(inter) == len(intra) == 40 and inter.min() > 0
    for name, expected in {
        "inter": inter,
        "intra": intra,
        "intra_over_inter": intra / inter,
        "inter_over_intra": inter / intra,
    }.items():
        assert found[name]["mean"] == pytest.approx(expected.mean())
        median = found[name]["quantiles"]["0.5"]
        assert median == pytest.approx(np.median(expected))
    assert found["intra_larger"] == pytest.approx((intra > inter).mean())
    with Image.open(workdir / found["picture"]) as picture:
        assert picture.width > picture.height > 200


def test_text_has_the_numbers(labeled):
    lines = patch_distance.text(labeled[1]).splitlines()
    assert "6 images, patches of 5 x 5 pixels" in lines[0]
    ratio = labeled[1]["heat_maps"]["edges_over_elsewhere"]
    assert lines[2].endswith(f"ratio {ratio:.2f}")
    median = labeled[1]["triplets"]["intra_over_inter"]["quantiles"]["0.5"]
    (row,) = [line for line in lines if line.startswith("  intra : inter")]
    assert row.split()[3 + 3] == f"{median:.3f}"


def test_seed_decides(folder, labeled, tmp_path):
    options = dict(config=_config(folder), patch=5, triplets=40)
    other = _run(tmp_path / "other", seed=1, **options)["triplets"]
    assert other["distances"] != labeled[1]["triplets"]["distances"]


def test_records_give_what_files_give(folder, labeled, tmp_path):
    config = _config(folder)
    dataset = examples.open_dataset(config)
    files = examples.check_files(config, dataset, check.raise_on)
    packed.write(config, dataset, files, str(tmp_path / "records"))
    config.data.records = str(tmp_path / "records")
    result = _run(tmp_path / "out", config=config, patch=5, triplets=40)
    assert result == labeled[1]


def test_limit_and_train_list(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mine")
    (tmp_path / "mine" / "splits").mkdir()
    train = tmp_path / "mine" / "splits" / "train.txt"
    train.write_text("im01\nim02\nim03\nim05\nim07\n")
    choices = [
        sources.labeled(_config(tmp_path / "mine"), 3, seed=seed, pictures=2)
        for seed in range(5)
    ]
    for choice in choices:
        # That has no label and the others are not on the list.
        assert set(choice.names) <= {"im01", "im02", "im03", "im05"}
        assert len(choice.names) == 3 and sum(choice.pictured) == 2
    assert len({frozenset(choice.names) for choice in choices}) > 1


def test_photographs(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, size in (("a.png", (9, 30)), ("more/b.jpg", (40, 12))):
        pixels = draw.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    workdir = tmp_path / "photos" / "out"
    for _ in range(2):
        # The second time there are pictures below the folder.
        result = _run(workdir, images=str(tmp_path / "photos"), patch=9)
        names = [image["name"] for image in result["images"]]
        assert names == ["a.png", "more/b.jpg"]
        assert (workdir / "heat_maps" / "more" / "b.jpg.png").is_file()
    assert "triplets" not in result
    assert set(result["heat_maps"]) == {"mean"}
    assert "2 images" in patch_distance.text(result)


@pytest.mark.parametrize("name", ["", "im00.png"])
def test_first_photograph(name, folder, tmp_path):
    images = str(folder / "images" / name)
    result = _run(tmp_path, images=images, patch=9, max_images=1)
    assert [image["name"] for image in result["images"]] == ["im00.png"]


def _make_flat(path, masks):
    """Images of one color each with the given masks."""
    (path / "images").mkdir(parents=True)
    (path / "labels").mkdir()
    for i, mask in enumerate(masks):
        image = Image.new("RGB", mask.shape[::-1], (40 * i, 90, 90))
        image.save(path / "images" / f"{i}.png")
        Image.fromarray(mask.astype(np.uint8)).save(
            path / "labels" / f"{i}.png"
        )
    (path / "classes.txt").write_text("\n".join("abcdef") + "\n")
    return _config(path)


def _halves(left, right):
    return np.repeat([[left] * 6 + [right] * 6], 10, 0)


def test_names_belong_to_images_of_several_sizes(tmp_path):
    masks = [_halves(0, i)[:size] for i, size in enumerate((9, 4, 10, 7))]
    config = _make_flat(tmp_path / "flat", masks)
    source = sources.labeled(config, 9, seed=0, pictures=1)
    assert source.sizes.tolist() == [[4, 12], [7, 12], [9, 12], [10, 12]]
    assert source.names == ("1", "3", "0", "2")
    for _ in range(2):
        seen = list(sources.read(source, "again"))
        assert len(seen) == 4
        for name, (image, label) in zip(source.names, seen):
            assert (image[..., 0] == 40 * int(name)).all()
            np.testing.assert_array_equal(label, masks[int(name)])


def test_constant_images(tmp_path):
    masks = [_halves(0, 1), _halves(1, 2), _halves(3, 255)]
    config = _make_flat(tmp_path / "flat", masks)
    result = _run(tmp_path / "out", config=config, patch=3)
    found = result["triplets"]
    # Half of the anchors have a class of the other image; all are as near to
    # the other class as can be.
    assert found["number"] == 0 and found["anchors"] == 4 * 8
    assert found["without_positive"] == found["with_zero"] == 2 * 8
    assert result["heat_maps"]["mean"] == 0
    assert result["heat_maps"]["edges_over_elsewhere"] is None
    text = patch_distance.text(result)
    assert "left out: 16 triplets with a distance of 0" in text
    assert not (tmp_path / "out" / "triplets.png").exists()


def test_labels_that_do_not_fit(tmp_path):
    one_class = [_halves(0, 0), _halves(1, 255)]
    config = _make_flat(tmp_path / "a", one_class)
    with pytest.raises(ValueError, match="No class edge lies 1 pixels or more"):
        patch_distance.run(workdir=str(tmp_path / "w"), config=config, patch=3)
    disjoint = [_halves(0, 1), _halves(2, 3)]
    config = _make_flat(tmp_path / "b", disjoint)
    with pytest.raises(ValueError, match="lies in another image"):
        patch_distance.run(workdir=str(tmp_path / "w"), config=config, patch=3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "Give one of `images`"),
        ({"images": "x", "config": "y"}, "Give one of `images`"),
        ({"images": "x", "triplets": 3}, "`triplets` needs labels"),
        ({"patch": 4}, "`patch` must be odd.*patch=4"),
        ({"patch": -1}, "`patch` must be odd.*patch=-1"),
        ({"triplets": 0}, "`triplets` must be 1 or more.*triplets=0"),
        ({"seed": -1}, "`seed` must be 0 or more. Received: seed=-1"),
        ({"max_images": 0}, "`max_images` must be 1 or more"),
        ({"max_images": 1}, "two labeled images. Received: 6 of .*=1"),
        ({"patch": 17}, "16 x 16 pixels .*less than one patch.*patch=17"),
        ({"images": "no/where"}, "No image matches `images` 'no/where'"),
    ],
)
def test_mistakes_are_named(options, message, folder, tmp_path):
    workdir = tmp_path / "out"
    if options and "images" not in options:
        options = {"config": _config(folder), **options}
    with pytest.raises(ValueError, match=message):
        patch_distance.run(workdir=str(workdir), **options)
    assert not workdir.exists()


def test_damaged_images_are_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mine")
    path = tmp_path / "mine" / "images" / "im00.png"
    contents = bytearray(path.read_bytes())
    contents[60:200] = bytes(140)
    path.write_bytes(contents)
    for options in (
        {"config": _config(tmp_path / "mine")},
        {"images": str(tmp_path / "mine" / "images")},
    ):
        with pytest.raises(ValueError, match="im00.png: is truncated or dam"):
            patch_distance.run(
                workdir=str(tmp_path / "out"), patch=3, **options
            )
