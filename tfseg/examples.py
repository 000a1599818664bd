# SPDX-License-Identifier: Apache-2.0
"""From a config to checked files of each part of a data set."""

import dataclasses

import numpy as np

from tfseg import lookup, packed
from tfseg.data import check, pipeline
from tfseg.data import records as record_data
from tfseg.data import splits


def open_dataset(config):
    """The data set that a config names, from its files or its records."""
    if config.data.records:
        return packed.open_dataset(config)
    leaf = lookup.module("datasets", config.dataset.name)
    options = dict(config.dataset)
    options.pop("name")
    lookup.check_arguments(leaf.build, options, "config.dataset")
    return leaf.build(**options)


def pool(dataset, ids, labeled=True):
    """Examples of the given ids to draw from, see tfseg.data.pipeline."""
    if dataset.index is not None:
        rows = np.array([dataset.index.rows[name] for name in ids], np.int64)
        return record_data.Pool(
            dataset.index, rows, labeled=labeled, code=dataset.mask_code
        )
    records = [dataset.records[name] for name in ids]
    return pipeline.Pool(
        images=tuple(record.image for record in records),
        labels=tuple(record.label for record in records) if labeled else (),
        code=dataset.mask_code,
    )


@dataclasses.dataclass(frozen=True)
class Files:
    """What the checks of a data set read.

    Attributes:
      records: N, all of the data set.
      sizes: int32 [N, 2], height and width as stored; 0 = has a finding.
      labeled: L indices of the records that have a mask.
      counts: int64 [L, C], pixels of each class; 0 = has a finding.
    """

    records: tuple
    sizes: np.ndarray
    labeled: tuple
    counts: np.ndarray


def check_files(config, dataset, report):
    """Checks all files: training and the doctor share it.

    Args:
      config: ConfigDict.
      dataset: datasets.base.Dataset.
      report: function of a list of check.Finding, called for the images and
        then for the masks; training raises there.

    Returns:
      Files.
    """
    records = tuple(dataset.records.values())
    if dataset.index is not None:
        # They were checked when they were packed.
        labeled = tuple(np.flatnonzero(dataset.index.labeled).tolist())
        index = dataset.index
        return Files(records, index.sizes, labeled, index.class_counts)
    sizes, findings = check.check_images(
        [record.image for record in records],
        max_pixels=config.data.max_pixels,
    )
    report(findings)
    labeled = tuple(i for i, record in enumerate(records) if record.label)
    counts, findings = check.check_labels(
        [records[i].image for i in labeled],
        [records[i].label for i in labeled],
        sizes[list(labeled)],
        code=dataset.mask_code,
        num_classes=dataset.info.num_classes,
    )
    report(findings)
    return Files(records, sizes, labeled, counts)


def make_split(config, dataset, files):
    """Divides checked files, see tfseg.data.splits.

    Raises:
      ValueError: a list or a number of images does not fit.
    """
    return splits.make(
        labeled_ids_available=[files.records[i].id for i in files.labeled],
        all_ids=list(dataset.records),
        partitions=dataset.partitions,
        class_counts=files.counts,
        **config.split,
    )


def checked_split(config, dataset):
    """Checks all files and divides them.

    Raises:
      ValueError: lists what is wrong, before any training.
    """
    files = check_files(config, dataset, check.raise_on)
    return make_split(config, dataset, files)
