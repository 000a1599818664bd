# SPDX-License-Identifier: Apache-2.0
"""Images that are there twice, exactly or nearly.

Two images are nearly equal if their perceptual hashes differ in a few bits and
their thumbnails correlate. The hash finds the candidates fast; the thumbnails
tell a scaled, compressed or brightened copy from another picture of the same
layout, such as sky above ground.
"""

import dataclasses
import hashlib

import numpy as np
from absl import logging
from PIL import Image

from tfseg.data import check

# Measured on the 1,600 scenes of digits and 60 tiles of two photographs: copies
# scaled by a half or by two, saved as JPEG of quality 40, or of another gamma
# differ in at most 6 of 64 bits and correlate by more than 0.997; different
# images differ in 10 or more and correlate by less than 0.85.
_MOST_BITS = 8
_LEAST_CORRELATION = 0.95
_HASH_SIDE, _THUMBNAIL_SIDE = 32, 16
# Rows that are compared with all others at once: 40 MB for 20,000 images.
_BLOCK = 512
# More would take minutes to compare with each other.
_MOST_COMPARED = 200_000
# Images of one role are compared with each other and with the roles before.
_ROLES = {"labeled": 0, "unlabeled": 0, "validation": 1, "test": 2}
_NUM_ROLES = 3


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image to find it again.

    Attributes:
      digest: sha256 of the size and the pixels.
      bits: the perceptual hash, uint8 [8].
      thumbnail: brightness, uint8 [256].
    """

    digest: bytes
    bits: np.ndarray
    thumbnail: np.ndarray


def fingerprint(image):
    """Fingerprint of an image.

    Args:
      image: uint8 array [H, W, 3].
    """
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image))
    gray = Image.fromarray(image).convert("L")
    small, thumbnail = (
        np.asarray(gray.resize((side, side), Image.Resampling.BOX))
        for side in (_HASH_SIDE, _THUMBNAIL_SIDE)
    )
    return Fingerprint(
        digest.digest(), perceptual_hash(small), thumbnail.ravel()
    )


def perceptual_hash(gray):
    """Which of the 64 lowest frequencies lie above their median.

    Args:
      gray: [32, 32], brightness.

    Returns:
      uint8 [8], 64 bits.
    """
    low = (_COSINES @ gray.astype(np.float32) @ _COSINES.T).ravel()
    # The mean brightness is no part of the layout.
    return np.packbits(low > np.median(low[1:]))


def _cosines():
    """float32 [8, 32], the lowest rows of the discrete cosine transform."""
    place = (np.arange(_HASH_SIDE) + 0.5) / _HASH_SIDE
    return np.cos(np.pi * np.arange(8)[:, None] * place).astype(np.float32)


_COSINES = _cosines()


def find(paths, fingerprints, parts, masks):
    """Findings on images that are there twice.

    Each image is compared with those of the roles before (training,
    validation, test) and, if none is equal, with those before it in its own.

    Args:
      paths: N file names.
      fingerprints: N, None where an image is to be left out.
      parts: N of labeled, unlabeled, validation, test, None; None is left out.
      masks: N digests of the labels, None where there are none.

    Returns:
      list of check.Finding.
    """
    roles = np.array([_ROLES.get(part, -1) for part in parts])
    roles[[print_ is None for print_ in fingerprints]] = -1
    findings = []
    for role in range(_NUM_ROLES):
        here = np.flatnonzero(roles == role)
        before = np.flatnonzero((roles >= 0) & (roles < role))
        leaks = _match(here, before, fingerprints)
        rest = np.array([i for i in here if i not in leaks], int)
        repeats = _match(rest, None, fingerprints)
        for matches, leak in ((leaks, True), (repeats, False)):
            for i, (j, bits) in matches.items():
                findings.append(_finding(i, j, bits, leak, paths, parts, masks))
    return findings


def _match(rows, columns, fingerprints):
    """{row: (its match, bits that differ or None = same pixels)}.

    Args:
      rows: indices.
      columns: indices to look in; None = the rows before each.
      fingerprints: of all.
    """
    matches, first, rest = {}, {}, []
    for j in () if columns is None else columns:
        first.setdefault(fingerprints[j].digest, j)
    for i in rows:
        j = first.get(fingerprints[i].digest)
        if j is None:
            rest.append(i)
        else:
            matches[i] = (j, None)
        if columns is None:
            first.setdefault(fingerprints[i].digest, i)
    if columns is None and len(rest) > _MOST_COMPARED:
        logging.warning(
            "%d images of one part: nearly equal ones among them are not "
            "looked for, those in two parts are",
            len(rest),
        )
        return matches
    others = None if columns is None else _gather(first.values(), fingerprints)
    places, bits = nearest(*_gather(rest, fingerprints), others)
    found = rest if columns is None else list(first.values())
    for i, place, different in zip(rest, places, bits):
        if place >= 0:
            matches[i] = (found[place], int(different))
    return matches


def _gather(indices, fingerprints):
    chosen = [fingerprints[i] for i in indices]
    bits = np.array([x.bits for x in chosen], np.uint8).reshape(-1, 8)
    side = _THUMBNAIL_SIDE**2
    thumbnails = np.array([x.thumbnail for x in chosen], np.uint8)
    return bits, thumbnails.reshape(-1, side)


def nearest(bits, thumbnails, others=None):
    """The most alike of other images, for each image.

    Args:
      bits: uint8 [N, 8], perceptual hashes.
      thumbnails: uint8 [N, K].
      others: (bits [M, 8], thumbnails [M, K]); None = the images before each.

    Returns:
      (int64 [N], index of the other image, -1 = none is nearly equal;
      int64 [N], bits that differ).
    """
    other_bits, other_thumbnails = others or (bits, thumbnails)
    signs, other_signs = _signs(bits), _signs(other_bits)
    units, other_units = _units(thumbnails), _units(other_thumbnails)
    found = np.full(len(bits), -1)
    different = np.zeros(len(bits), np.int64)
    for start in range(0, len(bits) if len(other_bits) else 0, _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(bits)))
        stop = len(other_bits) if others else rows.stop
        agreement = signs[rows] @ other_signs[:stop].T
        near = agreement >= 64 - 2 * _MOST_BITS
        if not others:
            near &= np.arange(stop) < np.arange(rows.start, rows.stop)[:, None]
        some = np.flatnonzero(near.any(1))
        if len(some):
            alike = units[rows][some] @ other_units[:stop].T
            alike[~near[some]] = -1
            best = alike.argmax(1)
            good = alike[np.arange(len(some)), best] >= _LEAST_CORRELATION
            some, best = some[good], best[good]
            found[start + some] = best
            different[start + some] = (64 - agreement[some, best]) / 2
    return found, different


def _signs(bits):
    """float32 [N, 64], so that a product counts the bits that agree."""
    return np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1


def _units(thumbnails):
    """float32 [N, K] of mean 0 and length 1; 0 where all is one gray."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, 1e-3)


def _finding(i, j, bits, leak, paths, parts, masks):
    exact = bits is None
    how = (
        "has the same pixels as"
        if exact
        else f"nearly equals (hash of 64 bits, {bits} differ)"
    )
    if leak:
        return check.Finding(
            paths[i],
            paths[j],
            f"{how} {paths[j]}; this one is in {parts[i]}, that one in "
            f"{parts[j]}, so the score says less about new images",
            "move both to one part of the split, or remove one",
            "exact_leak" if exact else "near_leak",
        )
    if exact and masks[i] and masks[j] and masks[i] != masks[j]:
        return check.Finding(
            paths[i],
            paths[j],
            f"{how} {paths[j]}, but the two masks differ",
            "keep the image once, with the right mask",
            "contradiction",
        )
    where = parts[i] if parts[i] == parts[j] else f"{parts[j]} and {parts[i]}"
    return check.Finding(
        paths[i],
        paths[j],
        f"{how} {paths[j]}, both in {where}",
        "remove one, unless it is there twice on purpose",
        "exact_repeat" if exact else "near_repeat",
    )
