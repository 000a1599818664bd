# SPDX-License-Identifier: Apache-2.0
"""The Semantic Boundaries Dataset, a source of masks for VOC's images.

benchmark_RELEASE/dataset/cls/ID.mat          MATLAB 5: GTcls.Segmentation
benchmark_RELEASE/dataset/{train,val}.txt     8,498 and 2,857 ids

Source: Hariharan et al. 2011, benchmark_RELEASE/README and dataset/.
"""

import os
import zlib

import numpy as np

from tfseg import id_lists
from tfseg.datasets.layout import files

_LAYOUT = "the folder benchmark_RELEASE with dataset/{cls/,train.txt,val.txt}"


def mat_files(source):
    """id -> path of all ids of SBD.

    Args:
      source: folder benchmark_RELEASE, dataset/ in it, or the one above.

    Raises:
      ValueError: something is missing.
    """
    inside = ("dataset", os.path.join("benchmark_RELEASE", "dataset"))
    root = files.root(
        source, "cls", layout=_LAYOUT, inside=inside, option="`--source`"
    )
    ids = [
        name
        for part in ("train", "val")
        for name in files.read_list(
            os.path.join(root, f"{part}.txt"), layout=_LAYOUT
        )
    ]
    folder = os.path.join(root, "cls")
    there = files.named(folder, "", ".mat", layout=_LAYOUT)
    gone = sorted(set(ids) - there.keys())
    if gone:
        raise ValueError(
            f"{folder}: {len(gone):,} of the {len(ids):,} files that train.txt "
            f"and val.txt list are not there: {id_lists.shorten(gone)}. Fix: "
            "unpack SBD whole."
        )
    return {name: there[name] for name in ids}


def read(path, num_classes):
    """The mask of a .mat file.

    Args:
      path: file.
      num_classes: labels are 0..num_classes - 1.

    Returns:
      uint8 [H, W].

    Raises:
      ValueError: not such a file, or a label outside the classes.
    """
    # Late, as it takes a second and only a conversion needs it.
    from scipy.io import loadmat, matlab

    try:
        content = loadmat(path, variable_names=["GTcls"])
        label = content["GTcls"][0, 0]["Segmentation"]
    except (
        OSError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        NotImplementedError,
        zlib.error,
        matlab.MatReadError,
    ) as error:
        raise ValueError(
            f"{path}: cannot be read as a mask of SBD: {error!r}"
        ) from None
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise ValueError(
            f"{path}: the mask is {label.dtype} {label.shape}, not uint8 "
            "[H, W]"
        )
    if label.max(initial=0) >= num_classes:
        raise ValueError(
            f"{path}: holds label {label.max()} outside 0..{num_classes - 1}"
        )
    return label
