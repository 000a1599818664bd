# SPDX-License-Identifier: Apache-2.0
"""The data doctor: what is wrong with a data set, the most serious first.

It runs the checks of training, goes on where training stops, and looks closer:
it decodes every image and mask, compares all images with each other, and sums
up classes and sizes. What training refuses is an error here, in the same words.
"""

import collections
import importlib.metadata
import os
import platform
import tempfile
import time

import numpy as np
from absl import logging

from tfseg import config as config_lib
from tfseg import examples, id_lists, inspection_page, mask_code, runs
from tfseg.data import check
from tfseg.data.checks import coverage, duplicates, kinds, scan
from tfseg.datasets import base as datasets

_VERSION = 1
_PACKAGES = ("tfseg", "tensorflow", "numpy", "pillow")
_PARTS = ("labeled", "unlabeled", "validation", "test")
# Findings of one kind that are printed; the files have all of them.
_SHOWN = 10
_LONGEST_VALUE = 256


def inspect(config, out):
    """Inspects a data set; writes inspection.json and inspection.html.

    Args:
      config: ConfigDict of a run; its data set, split, crop and limit of
        pixels count.
      out: folder to write to.

    Returns:
      dict, what is in inspection.json.

    Raises:
      ValueError: the config is wrong, or there is no image to look at.
      OSError: cannot write.
    """
    start = time.monotonic()
    config_lib.validate(config)
    if config.data.records:
        raise ValueError(
            f"`config.data.records` is {config.data.records}, but the doctor "
            "looks at files. Fix: leave it empty, --config.data.records=, and "
            "name the folder of the files in `config.dataset.dir`."
        )
    findings = []
    dataset = _open(config, findings)
    # Before the work, so that its result is not lost.
    os.makedirs(out, exist_ok=True)
    tempfile.TemporaryFile(dir=out).close()
    files = examples.check_files(config, dataset, findings.extend)
    split = _split(config, dataset, files, findings)
    parts = _parts(files.records, split)
    _look_closer(config, dataset, files, parts, findings)
    findings.sort(key=lambda finding: kinds.order(finding.kind))
    report = {
        "version": _VERSION,
        "data": {"name": dataset.info.name, "dir": str(config.dataset.dir)},
        "counts": _counts(files, findings),
        "split": _split_summary(split, findings),
        "classes": _classes(dataset.info, files, parts),
        "sizes": _sizes(files, config.data.crop),
        "findings": [_to_json(finding) for finding in findings],
        "versions": _versions(),
        "seconds": round(time.monotonic() - start, 1),
    }
    os.makedirs(out, exist_ok=True)
    runs.write_json(os.path.join(out, "inspection.json"), report)
    inspection_page.write(os.path.join(out, "inspection.html"), report, dataset)
    return report


def text(report):
    """A report for people: findings by kind, classes, the sum.

    Args:
      report: of `inspect`.
    """
    lines = []
    for kind, found in kinds.grouped(report["findings"]).items():
        severity, heading = kinds.KINDS[kind]
        lines.append(f"{severity.upper()}: {heading} ({len(found):,})")
        lines += [f"  {_line(finding)}" for finding in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  ... and {len(found) - _SHOWN:,} more")
    lines += _class_table(report["classes"])
    counts = report["counts"]
    lines.append(
        f"{counts['error']:,} errors, {counts['warning']:,} warnings, "
        f"{counts['note']:,} notes in {counts['images']:,} images, "
        f"{counts['labeled']:,} of them labeled ({report['seconds']:g} s)"
    )
    return "\n".join(lines)


def _open(config, findings):
    """The data set, or the images alone where it cannot be made.

    Raises:
      ValueError: there is no image either.
    """
    try:
        return examples.open_dataset(config)
    except ValueError as error:
        records = _images_alone(config.dataset.dir)
        if not records:
            raise
        findings.append(_setup(config, error))
    logging.error("the data set cannot be made; looking at its images alone")
    info = datasets.Info(str(config.dataset.name), (), ())
    return datasets.Dataset(info, records, {}, mask_code.MaskCode())


def _images_alone(folder):
    """Records of the images where a folder data set has them."""
    images = os.path.join(folder or "", "images")
    if not folder or not os.path.isdir(images):
        return {}
    paths = sorted(
        path
        for path in id_lists.files_below(images)
        if path.lower().endswith(id_lists.IMAGE_SUFFIXES)
    )
    return {path: datasets.Record(path, path, None) for path in paths}


def _setup(config, error):
    """Finding that says what training says, word for word."""
    message, _, fix = str(error).partition("Fix: ")
    return check.Finding(
        str(config.dataset.dir),
        None,
        message.strip().rstrip("."),
        fix.strip().rstrip(".") or "correct the config or the data set",
        "setup",
    )


def _split(config, dataset, files, findings):
    """The split, None where there can be none."""
    if any(finding.kind == "setup" for finding in findings):
        return None
    try:
        return examples.make_split(config, dataset, files)
    except ValueError as error:
        findings.append(_setup(config, error))
        return None


def _parts(records, split):
    """Part of each record, None = unused; all unlabeled without a split."""
    if split is None:
        return ["unlabeled"] * len(records)
    # A labeled image may be an unlabeled one as well.
    part_of = {
        name: part
        for part in ("unlabeled", "labeled", "validation", "test")
        for name in getattr(split, part)
    }
    return [part_of.get(record.id) for record in records]


def _look_closer(config, dataset, files, parts, findings):
    """Appends what training does not look for."""
    refused = {finding.file for finding in findings}
    usable = np.flatnonzero(files.sizes[:, 0]).tolist()
    images = [files.records[i].image for i in usable]
    prints, found = scan.scan_images(images)
    findings += found
    rows = [
        row
        for row, i in enumerate(files.labeled)
        if files.sizes[i, 0] and files.records[i].label not in refused
    ]
    good = [files.labeled[row] for row in rows]
    masks = [files.records[i].label for i in good]
    info = dataset.info
    digests, found = scan.scan_masks(
        masks, dataset.mask_code, info.num_classes, info.ignore_label
    )
    findings += found
    digest_of = dict(zip(good, digests))
    findings += duplicates.find(
        images,
        prints,
        [parts[i] for i in usable],
        [digest_of.get(i) for i in usable],
    )
    findings += coverage.find_in_masks(
        str(config.dataset.dir),
        masks,
        files.sizes[good],
        files.counts[rows],
        info.class_names,
        [parts[i] for i in good],
    )
    drawn = [i for i in usable if parts[i] in ("labeled", "unlabeled")]
    findings += coverage.find_small(
        [files.records[i].image for i in drawn],
        files.sizes[drawn],
        config.data.crop,
    )


def _counts(files, findings):
    severities = collections.Counter(x.severity for x in findings)
    return {
        "images": len(files.records),
        "labeled": len(files.labeled),
        **{severity: severities[severity] for severity in kinds.SEVERITIES},
    }


def _split_summary(split, findings):
    """Numbers of images and, if training takes them, the digest of the ids."""
    if split is None:
        return None
    refused = any(x.severity == kinds.ERROR for x in findings)
    return {
        **{part: len(getattr(split, part)) for part in _PARTS},
        "digest": None if refused else split.digest(),
    }


def _classes(info, files, parts):
    """Pixels, share and masks of each class, over all and in two parts."""
    of_part = [parts[i] for i in files.labeled]
    counts = {
        part: files.counts[[p == part for p in of_part]].sum(0)
        for part in ("labeled", "validation")
    }
    total = files.counts.sum(0)
    return [
        {
            "label": label,
            "name": name,
            "color": list(info.palette[label]),
            "pixels": int(total[label]),
            "masks": int((files.counts[:, label] > 0).sum()),
            "share": _part_of(total, label),
            "share_training": _part_of(counts["labeled"], label),
            "share_validation": _part_of(counts["validation"], label),
        }
        for label, name in enumerate(info.class_names)
    ]


def _part_of(counts, label):
    """Share of a class in the labeled pixels, None where there are none."""
    return float(counts[label] / counts.sum()) if counts.any() else None


def _sizes(files, crop):
    sizes = files.sizes[files.sizes[:, 0] > 0]
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {
        "crop": list(crop),
        "smaller_than_crop": int((sizes < np.asarray(crop)).any(1).sum()),
        # [height, width, number of images], the most frequent first.
        "images": [[*unique[i].tolist(), int(counts[i])] for i in order],
    }


def _to_json(finding):
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "file": finding.file,
        "value": _plain(finding.value),
        "message": finding.message,
        "fix": finding.fix,
    }


def _plain(value):
    """What JSON can hold: lists for tuples, Python numbers for NumPy's.

    A photograph in place of a mask has a hundred thousand wrong colors.
    """
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value[:_LONGEST_VALUE]]
    return value.item() if isinstance(value, np.generic) else value


def _versions():
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None  # Run from its sources.
    return versions


def _line(finding):
    return f"{finding['file']}: {finding['message']}. Fix: {finding['fix']}."


def _class_table(classes):
    if not classes:
        return []
    width = max(5, *(len(x["name"]) for x in classes))
    lines = [
        f"{'class':{width}} {'masks':>7} {'pixels':>8} {'training':>9} "
        f"{'validation':>11}"
    ]
    for x in classes:
        lines.append(
            f"{x['name']:{width}} {x['masks']:>7,} {_percent(x['share']):>8} "
            f"{_percent(x['share_training']):>9} "
            f"{_percent(x['share_validation']):>11}"
        )
    return lines


def _percent(share):
    """'12.34%', '-' for None."""
    return "-" if share is None else f"{share:.2%}"
