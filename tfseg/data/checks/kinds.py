# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a data set, and how serious it is.

An error is what training refuses: it cannot learn from the files as they are,
or would learn nonsense. A warning lets it train, toward a result that says
less than it seems to or is worse than it could be. A note costs little.

Images that stand in training and in validation are a warning, not an error:
training would have to decode and compare every image before its first step,
which for a million takes hours, and official data sets hold such pairs.
"""

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)

# kind -> (severity, heading), the most serious first.
KINDS = {
    "setup": (ERROR, "The data set or its split cannot be made"),
    "unreadable": (ERROR, "Files that cannot be read"),
    "no_image": (ERROR, "Files that are not a JPEG or PNG image"),
    "damaged": (ERROR, "Truncated or damaged files"),
    "too_large": (ERROR, "Images above the limit of pixels"),
    "mask_format": (ERROR, "Masks that are not a PNG of 8 bits"),
    "size_mismatch": (ERROR, "Masks of another size than their image"),
    "unknown_ids": (ERROR, "Masks with ids outside the classes"),
    "unknown_colors": (ERROR, "Masks with colors outside the palette"),
    "exact_leak": (WARNING, "Images that are in two parts of the split"),
    "near_leak": (WARNING, "Nearly equal images in two parts of the split"),
    "contradiction": (WARNING, "Equal images with different masks"),
    "lossy_mask": (WARNING, "Masks that look compressed or scaled"),
    "binary_255": (WARNING, "Masks of nothing but 0 and 255 = ignored"),
    "all_ignored": (WARNING, "Masks in which all pixels are ignored"),
    "one_class": (WARNING, "Many masks of one class alone"),
    "never_labeled": (WARNING, "Classes that no mask shows"),
    "not_in_training": (WARNING, "Classes that no training mask shows"),
    "turned": (WARNING, "Images that EXIF turns or mirrors"),
    "deep_image": (WARNING, "Images of 16 bits a channel"),
    "cmyk_image": (WARNING, "CMYK images"),
    "exact_repeat": (NOTE, "Images that are there twice"),
    "near_repeat": (NOTE, "Nearly equal images"),
    "smaller_than_crop": (NOTE, "Images smaller than the crop"),
}


def order(kind):
    """The place of a kind by seriousness, 0 first."""
    return list(KINDS).index(kind)


def grouped(findings):
    """{kind: its findings}, in their order.

    Args:
      findings: dicts, as in inspection.json.
    """
    groups = {}
    for finding in findings:
        groups.setdefault(finding["kind"], []).append(finding)
    return groups
