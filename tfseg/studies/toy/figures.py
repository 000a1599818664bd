# SPDX-License-Identifier: Apache-2.0
"""The picture of the toy: one panel per case."""

import numpy as np

from tfseg.studies.toy import plane, training

# Of class 0 and 1: regions, labeled points.
_REGIONS = ("#dbe9f6", "#fde3cc")
_POINTS = ("#1f5fa8", "#c8500a")
_RIGHT, _WRONG = "#8a8a8a", "#d0021b"
_BOUNDARY, _CONTOURS = "#111111", "#2e8b57"
# Dots in a whole plane; that many show a density, and no more.
_COUNT = 5000
_PANEL, _DPI = 3.1, 120


def draw(path, panels, distance, labeled):
    """Draws what was learned in each case.

    Args:
      path: of the PNG to write.
      panels: list of (case of toy2d.run, pixels with data int32 [N],
        prediction bool [size, size]).
      distance: float32 [size, size], see plane.signed_distance.
      labeled: int32 [L], pixels.
    """
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(_PANEL * len(panels), _PANEL + 1.1), layout="constrained"
    )
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (case, pixels, predicted) in zip(all_axes, panels):
        _draw_regions(axes, predicted)
        _draw_unlabeled(axes, pixels, predicted != (distance > 0))
        if case["perturbation"] == "constrained":
            _draw_contours(axes, distance)
        _draw_labeled(axes, distance, labeled)
        axes.set_title(f"{case['case']}\nerror rate {case['error_rate']:.2%}")
        axes.set(xticks=[], yticks=[], xlim=(-1, 1), ylim=(1, -1))
    _draw_legend(figure)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")


def _draw_regions(axes, predicted):
    from matplotlib.colors import ListedColormap

    colors = ListedColormap(_REGIONS)
    extent = (-1, 1, 1, -1)
    axes.imshow(predicted, cmap=colors, vmin=0, vmax=1, extent=extent)


def _centers(distance):
    axis = (np.arange(len(distance)) + 0.5) / len(distance) * 2 - 1
    return axis, axis


def _draw_unlabeled(axes, pixels, wrong):
    """A few points, as many per area of data in every panel."""
    size = len(wrong)
    generator = np.random.default_rng(0)
    count = round(_COUNT * len(pixels) / size**2)
    chosen = generator.choice(pixels, count)
    points = plane.points(chosen, size).numpy()
    points += generator.normal(scale=training.JITTER, size=points.shape)
    for which, color in enumerate((_RIGHT, _WRONG)):
        y, x = points[wrong.ravel()[chosen] == which].T
        axes.plot(x, y, "o", color=color, markersize=1.3, markeredgewidth=0)


def _draw_contours(axes, distance):
    """Thin lines along which the constrained perturbations go."""
    levels = np.array([-0.45, -0.3, -0.15, 0.15, 0.3, 0.45])
    axes.contour(
        *_centers(distance),
        distance,
        levels,
        colors=_CONTOURS,
        linewidths=0.8,
        linestyles="solid",
    )


def _draw_labeled(axes, distance, labeled):
    axes.contour(
        *_centers(distance), distance, [0], colors=_BOUNDARY, linewidths=1.6
    )
    y, x = plane.points(labeled, len(distance)).numpy().T
    label = distance.ravel()[labeled] > 0
    for which, color in enumerate(_POINTS):
        axes.plot(
            x[label == which],
            y[label == which],
            "o",
            color=color,
            markeredgecolor="white",
            markersize=7,
        )


def _draw_legend(figure):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = [
        (Patch(color=color), f"predicted: class {label}")
        for label, color in enumerate(_REGIONS)
    ]
    entries += [
        (
            Line2D([], [], color=color, marker="o", ls=""),
            f"labeled: class {label}",
        )
        for label, color in enumerate(_POINTS)
    ]
    entries += [
        (Line2D([], [], color=color, marker=".", ls=""), f"unlabeled, {name}")
        for name, color in (("right", _RIGHT), ("wrong", _WRONG))
    ]
    entries += [
        (Line2D([], [], color=_BOUNDARY), "true boundary"),
        (Line2D([], [], color=_CONTOURS, lw=0.8), "contours of its distance"),
    ]
    figure.legend(
        *zip(*entries),
        loc="outside lower center",
        ncols=len(entries),
        frameon=False,
    )
