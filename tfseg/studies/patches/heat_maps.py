# SPDX-License-Identifier: Apache-2.0
"""Heat maps of the distances between neighboring patches, and their means."""

import os

import numpy as np

from tfseg.studies.patches import distances, figures, sources


def measure(source, patch, workdir):
    """Measures all images; draws those that are to be drawn.

    Args:
      source: sources.Source.
      patch: odd side, pixels.
      workdir: folder to write heat_maps/ to.

    Returns:
      list of dict, one an image: name, height, width; mean, minimum and
      maximum distance; picture, or None; and with labels the means at class
      edges and elsewhere with their numbers of pixels.
    """
    maps = []
    for name, pictured, (image, label) in zip(
        source.names, source.pictured, sources.read(source, "heat maps")
    ):
        values = distances.neighbor_distances(image, patch)
        picture = f"heat_maps/{name}.png" if pictured else None
        if pictured:
            path = os.path.join(workdir, picture)
            figures.draw_heat_map(path, image, values, patch, label)
        maps.append(
            {
                "name": name,
                "height": values.shape[0],
                "width": values.shape[1],
                **_describe(values, label),
                "picture": picture,
            }
        )
    return maps


def _describe(values, label):
    result = {
        "pixels": values.size,
        "mean": float(values.mean()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
    }
    if label is not None:
        edges = distances.class_edges(label)
        elsewhere = ~edges & (label != distances.IGNORE_LABEL)
        result |= _mean("edges", values[edges])
        result |= _mean("elsewhere", values[elsewhere])
    return result


def _mean(name, values):
    mean = float(values.mean()) if len(values) else None
    return {f"{name}_pixels": len(values), f"{name}_mean": mean}


def summarize(maps):
    """Means over the pixels of all images.

    Args:
      maps: of `measure`.

    Returns:
      dict: mean; and with labels edges_mean, elsewhere_mean and their ratio
      edges_over_elsewhere, None where there is no such pixel.
    """
    result = {"mean": _pooled(maps, "mean", "pixels")}
    if "edges_mean" in maps[0]:
        edges, elsewhere = (
            _pooled(maps, f"{name}_mean", f"{name}_pixels")
            for name in ("edges", "elsewhere")
        )
        result |= {
            "edges_mean": edges,
            "elsewhere_mean": elsewhere,
            "edges_over_elsewhere": (
                edges / elsewhere if edges and elsewhere else None
            ),
        }
    return result


def _pooled(maps, mean, weight):
    maps = [one for one in maps if one[weight]]
    if not maps:
        return None
    weights = [one[weight] for one in maps]
    return float(np.average([one[mean] for one in maps], weights=weights))


def lines(summary):
    """A summary for people: list of str."""
    result = [f"to the patches one pixel away: mean {summary['mean']:.3f}"]
    if summary.get("edges_over_elsewhere") is not None:
        result.append(
            f"  at class edges {summary['edges_mean']:.3f}, elsewhere "
            f"{summary['elsewhere_mean']:.3f}; ratio "
            f"{summary['edges_over_elsewhere']:.2f}"
        )
    return result
