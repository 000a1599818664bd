# SPDX-License-Identifier: Apache-2.0
"""Pictures of the distances between patches."""

import os

import numpy as np

from tfseg.studies.patches import distances

_EDGE = "#d62728"
_INTER, _INTRA, _RATIO = "#d62728", "#1f77b4", "#555555"
# The most labels that fit beside each other: factors of powers of ten.
_NARROW, _WIDE = (1, 1.5, 2, 3, 5, 7), (1, 2, 5)
_DPI = 120
# Longest side of a panel, and room for its title, inches.
_PANEL, _NARROWEST = 5.0, 3.6


def draw_heat_map(path, image, values, patch, label=None):
    """Draws an image beside its heat map, with class edges over both.

    Args:
      path: of the PNG to write; its folder is made.
      image: uint8 [H, W, 3].
      values: float64 [H, W], see distances.neighbor_distances.
      patch: side of the patches, pixels.
      label: int [H, W], 255 is no class; or None.
    """
    from matplotlib.figure import Figure

    height, width = values.shape
    scale = _PANEL / max(height, width)
    across, down = max(width * scale, _NARROWEST), height * scale
    beside = height * 1.3 > width
    figure = Figure(
        figsize=(2 * across + 1, down) if beside else (across, 2 * down + 1),
        layout="constrained",
    )
    left, right = figure.subplots(*((1, 2) if beside else (2, 1)))
    left.imshow(image)
    left.set_title("image" if label is None else "image, class edges")
    shown = right.imshow(values, cmap="Blues", vmin=0, vmax=values.max() or 1)
    right.set_title(f"distance to the next patch, {patch} × {patch} pixels")
    figure.colorbar(
        shown, ax=right, fraction=0.046, pad=0.03, label="mean L2 distance"
    )
    for axes in (left, right):
        axes.set_axis_off()
        if label is not None:
            _draw_edges(axes, label)
    _save(figure, path)


def _draw_edges(axes, label):
    """Lines between the pixels of two classes; visible at any scale."""
    from matplotlib.collections import LineCollection

    below, right = distances.class_changes(label)
    # Pixels are centered on whole numbers, (column, row).
    lines = [
        np.argwhere(change)[:, None, ::-1] + np.array(ends)
        for change, ends in (
            (below, [[-0.5, 0.5], [0.5, 0.5]]),
            (right, [[0.5, -0.5], [0.5, 0.5]]),
        )
    ]
    axes.add_collection(
        LineCollection(np.concatenate(lines), colors=_EDGE, linewidths=0.8),
        autolim=False,
    )


def draw_triplets(path, inter, intra, name):
    """Draws histograms of both distances and of their ratio.

    Args:
      path: of the PNG to write; its folder is made.
      inter: float64 [N], distances across class edges, positive.
      intra: float64 [N], distances to the nearest of the same class elsewhere,
        positive.
      name: of the data set.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{name}: {len(inter):,} triplets of patches")
    bins = _num_bins(len(inter))
    bins = np.linspace(0, max(inter.max(), intra.max()), bins + 1)
    for values, color, what in (
        (inter, _INTER, "inter-class: the patch one pixel away, other class"),
        (intra, _INTRA, "intra-class: nearest patch in other images"),
    ):
        left.hist(values, bins, color=color, alpha=0.6, label=what)
    left.set_xlabel("L2 distance from the anchor, pixels in [0, 1]")
    left.set_ylabel("triplets")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    _draw_ratio(right, intra / inter)
    _save(figure, path)


def _draw_ratio(axes, ratio):
    """Histogram over a logarithmic axis, 1 always in view."""
    from matplotlib import ticker

    low, high = min(ratio.min(), 0.9), max(ratio.max(), 1.1)
    bins = np.geomspace(low, high, _num_bins(len(ratio)) + 1)
    axes.hist(ratio, bins, color=_RATIO)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linestyle=":")
    median = np.median(ratio)
    axes.axvline(median, color=_INTRA, label=f"median {median:.2f}")
    axes.set_xlabel("ratio, intra-class : inter-class distance")
    axes.set_ylabel("triplets")
    axes.legend(frameon=False)
    upper = axes.secondary_xaxis("top", functions=(_inverse, _inverse))
    upper.set_xlabel("inter-class : intra-class distance")
    factors = _NARROW if high < 10 * low else _WIDE
    for axis in (axes.xaxis, upper.xaxis):
        axis.set_major_locator(ticker.LogLocator(subs=factors))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_locator(ticker.NullLocator())


def _num_bins(count):
    """50 for 1,000 values, as the official plots have."""
    return max(10, round(1.6 * count**0.5))


def _inverse(values):
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(values, float)


def _save(figure, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")
