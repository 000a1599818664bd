# SPDX-License-Identifier: Apache-2.0
"""From a config to checked files of each part of a data set."""

from tfseg import lookup
from tfseg.data import check, pipeline, splits


def open_dataset(config):
    """The data set that a config names."""
    leaf = lookup.module("datasets", config.dataset.name)
    options = dict(config.dataset)
    options.pop("name")
    lookup.check_arguments(leaf.build, options, "config.dataset")
    return leaf.build(**options)


def pool(dataset, ids, labeled=True):
    """Files of the given ids, for tfseg.data.pipeline."""
    records = [dataset.records[name] for name in ids]
    return pipeline.Pool(
        images=tuple(record.image for record in records),
        labels=tuple(record.label for record in records) if labeled else (),
        code=dataset.mask_code,
    )


def checked_split(config, dataset):
    """Checks all files and divides them, see tfseg.data.splits.

    Raises:
      ValueError: lists what is wrong, before any training.
    """
    records = list(dataset.records.values())
    sizes, findings = check.check_images(
        [record.image for record in records],
        max_pixels=config.data.max_pixels,
    )
    check.raise_on(findings)
    labeled = [i for i, record in enumerate(records) if record.label]
    counts, findings = check.check_labels(
        [records[i].image for i in labeled],
        [records[i].label for i in labeled],
        sizes[labeled],
        code=dataset.mask_code,
        num_classes=dataset.info.num_classes,
    )
    check.raise_on(findings)
    return splits.make(
        labeled_ids_available=[records[i].id for i in labeled],
        all_ids=list(dataset.records),
        partitions=dataset.partitions,
        class_counts=counts,
        **config.split,
    )
