# SPDX-License-Identifier: Apache-2.0
r"""How far patches are from each other, at class edges and elsewhere.

    python -m launch.analyze --study=patch_distance --workdir=runs/patches \
        --images=photographs
    python -m launch.analyze --study=patch_distance --workdir=runs/patches \
        --config=configs/digits_supervised.py:dir=data/digits

Heat maps: the mean L2 distance from the patch around each pixel to those
around its four neighbors. The cluster assumption wants a gap of low density
between classes, a ridge of large distances along their edges. But the
distances are a box filter's: smooth, the more so the larger the patch.

Triplets, where there are labels. Anchor: the patch around a pixel whose
neighbor has another class. Negative: the patch around that neighbor. Positive:
the nearest patch of the anchor's class in all other images. The distance to the
negative is called inter-class, that to the positive intra-class.

Source: French et al. 2020, supplement B.1 and B.2; patch_dist.py,
intra_inter_class_patch_dist.py and the notebooks. Deliberate differences:
- The supplement defines squared distances; the official code and plots have
  them without the square, and so has this.
- The official plot shows inter-class : intra-class distance, less than 1. The
  main ratio here is intra : inter, of which the supplement says about 3 for
  Cityscapes; the other one is given as well.
- Positives are whole patches; there images are mirrored at their edges.
- There 1,000 anchors of 225 x 225 pixels are searched for in all training
  images: --patch=225 --triplets=1000 --max_images=2975. Here an anchor takes
  about 0.1 s of CPU for each image of 2048 x 1024 pixels.

Measured on `digits`, 100 images and triplets, seeds 0, 1, 2: the mean distance
at class edges is 1.83, 1.78, 1.83 times that elsewhere; the median of
intra : inter is 1.42, 1.47, 1.42. With seed 0 and patches of 5 and 31 pixels:
2.62 and 1.41 times; 0.62 and 2.05.
"""

import os

from tfseg import runs
from tfseg.studies.patches import heat_maps, ratios, sources

_TRIPLETS = 100
# Of a data set; of the user's photographs all are drawn.
_PICTURES = 8


def run(
    *,
    workdir,
    images=None,
    config=None,
    seed=0,
    patch=15,
    triplets=None,
    max_images=100,
):
    """Writes patch_distance.json, heat_maps/ and, with labels, triplets.png.

    Args:
      workdir: folder to write to; it is made.
      images: image file, folder (with sub-folders) or glob pattern; or
      config: ConfigDict of a labeled data set.
      seed: of the choice of images and anchors.
      patch: odd side of the patches, pixels.
      triplets: anchors to draw, 100 if None; only with `config`.
      max_images: the most images to look at: the first files, or a random
        choice from the data set.

    Returns:
      dict, what is in patch_distance.json.

    Raises:
      ValueError: an argument, a file or the labels do not fit.
    """
    _check(images, config, seed, patch, triplets, max_images)
    if config is None:
        source = sources.photographs(images, workdir, max_images)
    else:
        source = sources.labeled(
            config, max_images, seed=seed, pictures=_PICTURES
        )
    _check_sizes(source, patch)
    os.makedirs(workdir, exist_ok=True)
    result = {"source": source.title, "patch": patch, "seed": seed}
    if config is not None:
        # First, as it can find that the data set does not fit.
        result["triplets"] = ratios.measure(
            source,
            number=triplets or _TRIPLETS,
            patch=patch,
            seed=seed,
            workdir=workdir,
        )
    maps = heat_maps.measure(source, patch, workdir)
    result |= {"heat_maps": heat_maps.summarize(maps), "images": maps}
    runs.write_json(os.path.join(workdir, "patch_distance.json"), result)
    return result


def text(result):
    """A result for people.

    Args:
      result: of `run`.

    Returns:
      str of several lines.
    """
    side, maps = result["patch"], result["images"]
    lines = [
        f"{result['source']}: {len(maps):,} images, patches of {side} x "
        f"{side} pixels; L2 distances of pixels in [0, 1]"
    ]
    lines += heat_maps.lines(result["heat_maps"])
    if "triplets" in result:
        lines += ratios.lines(result["triplets"])
    return "\n".join(lines)


def _check(images, config, seed, patch, triplets, max_images):
    if (images is None) == (config is None):
        raise ValueError(
            "Give one of `images`, a file or folder, and `config`, that of a "
            "labeled data set."
        )
    if triplets is not None and config is None:
        raise ValueError(
            f"`triplets` needs labels. Received: triplets={triplets} without "
            "`config`. Fix: name a labeled data set, or leave it out."
        )
    if patch < 1 or patch % 2 == 0:
        raise ValueError(
            f"`patch` must be odd and positive. Received: patch={patch}."
        )
    limits = (
        ("seed", seed, 0),
        ("triplets", triplets, 1),
        ("max_images", max_images, 1),
    )
    for name, value, least in limits:
        if value is not None and value < least:
            raise ValueError(
                f"`{name}` must be {least} or more. Received: {name}={value}."
            )


def _check_sizes(source, patch):
    for name, (height, width) in zip(source.names, source.sizes.tolist()):
        if min(height, width) < patch:
            raise ValueError(
                f"{name} has {width} x {height} pixels (width x height), less "
                f"than one patch. Received: patch={patch}. Fix: a smaller "
                "`patch`, or other images."
            )
