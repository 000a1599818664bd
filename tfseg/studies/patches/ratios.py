# SPDX-License-Identifier: Apache-2.0
"""Distances within a class and across class edges, by triplets of patches."""

import os

import numpy as np

from tfseg.studies.patches import figures, search, sources

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_PICTURE = "triplets.png"
# Key -> what it is called on the screen.
_ROWS = {
    "inter": "inter-class: across the edge",
    "intra": "intra-class: other images",
    "intra_over_inter": "intra : inter",
    "inter_over_intra": "inter : intra",
}
_LEFT_OUT = {
    "without_positive": "without a patch of their class in another image",
    "with_zero": "with a distance of 0",
}


def measure(source, *, number, patch, seed, workdir):
    """Draws anchors and measures the distances to negatives and positives.

    Args:
      source: sources.Source with labels.
      number: of anchors.
      patch: odd side, pixels.
      seed: of the choice of anchors.
      workdir: folder to write triplets.png to.

    Returns:
      dict: number of triplets; numbers of those left out; statistics of inter,
      intra and both ratios; share of the triplets in which intra is larger;
      distances, a list each.

    Raises:
      ValueError: no class edge lies inside of the images, or no class is in
        two of them.
    """
    anchors = _draw(source, number, patch, seed)
    inter, intra = anchors.negatives, _nearest(source, anchors)
    found = np.isfinite(intra)
    if not found.any():
        raise ValueError(
            f"No patch of the {len(anchors)} anchors' classes lies in another "
            "image. Fix: look at more images, `max_images`, or take a smaller "
            "`patch`."
        )
    usable = found & (inter > 0) & (intra > 0)
    inter, intra = inter[usable], intra[usable]
    result = {
        "anchors": len(anchors),
        "number": len(inter),
        "without_positive": int(np.sum(~found)),
        "with_zero": int(np.sum(found & ~usable)),
    }
    if len(inter):
        figures.draw_triplets(
            os.path.join(workdir, _PICTURE), inter, intra, source.title
        )
        result |= _statistics(inter, intra)
    return result


def _draw(source, number, patch, seed):
    counts = [
        len(search.boundary_pairs(label, patch))
        for _, label in sources.read(source, "class edges")
    ]
    if not sum(counts):
        raise ValueError(
            f"No class edge lies {patch // 2} pixels or more inside of the "
            f"{len(counts)} images, so there is no anchor. Fix: a smaller "
            f"`patch` than {patch}, or more images, `max_images`."
        )
    return search.draw_anchors(
        sources.read(source, "anchors"),
        np.array(counts),
        number=number,
        patch=patch,
        seed=seed,
    )


def _nearest(source, anchors):
    """float64 [N], see search.Search; images are read for each chunk."""
    parts = search.chunks(anchors, source.sizes)
    results = []
    for turn, part in enumerate(parts, start=1):
        one = search.Search(part)
        name = f"positives, {turn} of {len(parts)}"
        for position, example in enumerate(sources.read(source, name)):
            one.look(position, *example)
        results.append(one.distances())
    return np.concatenate(results)


def _statistics(inter, intra):
    return {
        "inter": _describe(inter),
        "intra": _describe(intra),
        "intra_over_inter": _describe(intra / inter),
        "inter_over_intra": _describe(inter / intra),
        "intra_larger": float(np.mean(intra > inter)),
        "picture": _PICTURE,
        "distances": {"inter": inter.tolist(), "intra": intra.tolist()},
    }


def _describe(values):
    quantiles = np.quantile(values, _QUANTILES).tolist()
    return {
        "mean": float(values.mean()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "quantiles": {str(q): x for q, x in zip(_QUANTILES, quantiles)},
    }


def lines(result):
    """What was measured, for people: list of str."""
    shown = []
    if result["number"]:
        heading = "".join(f"{q:9.0%}" for q in _QUANTILES)
        shown.append(f"{result['number']:5,} triplets{'mean':>24}{heading}")
        shown += [_row(words, result[key]) for key, words in _ROWS.items()]
        shown.append(
            "  the other class is nearer than the same class in "
            f"{result['intra_larger']:.1%}"
        )
    shown += [
        f"  left out: {result[key]:,} triplets {words}"
        for key, words in _LEFT_OUT.items()
        if result[key]
    ]
    return shown


def _row(words, found):
    values = [found["mean"], *found["quantiles"].values()]
    return f"  {words:28}" + "".join(f"{value:9.3f}" for value in values)
