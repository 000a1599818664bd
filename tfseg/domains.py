# SPDX-License-Identifier: Apache-2.0
"""The data sets of a run. Most runs have one; `config.domains` names further.

A domain has a data set, classes and a split of its own. Everything else of the
config is shared.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from tfseg import config as config_lib
from tfseg import examples, pseudo_labels
from tfseg.data import augmentation, pipeline, splits
from tfseg.datasets import base as datasets


@dataclasses.dataclass(frozen=True)
class Domain:
    """A data set and what a run does with it.

    Attributes:
      name: in `config.domains`; of the first one, that of its data set.
      number: 0 for the first one.
      config: ConfigDict of the run, with this domain's dataset and split.
      dataset: datasets.base.Dataset.
      split: data.splits.Split.
    """

    name: str
    number: int
    config: config_dict.ConfigDict
    dataset: datasets.Dataset
    split: splits.Split

    @property
    def info(self):
        """datasets.base.Info."""
        return self.dataset.info

    def check_unlabeled(self, method):
        """Refuses a split without the unlabeled images that a method needs.

        Args:
          method: class of a method.

        Raises:
          ValueError: says what is missing.
        """
        if not method.UNLABELED_VIEW:
            return
        folder = self.config.dataset.dir
        if method.IMAGE_LABELED and not self.image_labeled():
            raise ValueError(
                f"{folder}: of no image is known which classes it shows. Fix: "
                "set `config.dataset.image_labels` to True; a folder needs "
                "image_labels.txt, see tfseg/datasets/folder.py."
            )
        ids = self._unlabeled_ids(method)
        if not ids:
            raise ValueError(
                f"{folder}: there are no unlabeled images, but the method "
                f"{self.config.method.name!r} learns from them. Add images "
                "without masks to images/, or set "
                "`config.split.unlabeled_includes_labeled` to True."
            )
        if self.config.data.pseudo_labels:
            pseudo_labels.check(
                self.dataset,
                ids,
                self.config.data.pseudo_labels,
                max_pixels=self.config.data.max_pixels,
            )

    def image_labeled(self):
        """Ids of the training images whose classes are known."""
        ids = sorted({*self.split.labeled, *self.split.unlabeled})
        records = self.dataset.records
        return tuple(name for name in ids if records[name].classes is not None)

    def batches(self, method, *, start, part, folder):
        """Training batches of this domain.

        Args:
          method: methods.base.Method.
          start: first step.
          part: data.order.Slice.
          folder: of pseudo labels that the run has made itself.

        Returns:
          dict of tf.data.Dataset, of what the method's views give.
        """
        train = self.config.train
        shared = dict(start=start, stop=train.steps, part=part)
        streams = {}
        if method.LABELED_VIEW:
            streams["labeled"] = self._stream(
                examples.pool(self.dataset, self.split.labeled),
                method.LABELED_VIEW,
                batch=train.labeled_batch,
                seed=self._seed(0),
                **shared,
            )
        if method.UNLABELED_VIEW:
            shared |= dict(batch=train.unlabeled_batch, seed=self._seed(1))
            streams["unlabeled"] = self._stream(
                self._unlabeled_pool(method, folder),
                method.UNLABELED_VIEW,
                **shared,
            )
        if method.IMAGE_LABELED:
            classes = pipeline.rows(self._classes(), **shared)
            streams["unlabeled"] = tf.data.Dataset.zip(
                (streams["unlabeled"], classes)
            ).map(lambda batch, rows: batch | {"classes": rows})
        return streams

    def _seed(self, stream):
        """Streams of one run draw from seeds of their own."""
        return (self.config.seed, 2 * self.number + stream)

    def _stream(self, pool, view, **options):
        return pipeline.stream(
            pool,
            view=view,
            augmentation=augmentation.Augmentation.of(self.config.data),
            **options,
        )

    def _unlabeled_ids(self, method):
        if method.PSEUDO_LABELED:
            return pseudo_labels.ids(self.split)
        if method.IMAGE_LABELED:
            return self.image_labeled()
        return self.split.unlabeled

    def _unlabeled_pool(self, method, folder):
        ids = self._unlabeled_ids(method)
        if not method.PSEUDO_LABELED:
            folder = self.config.data.pseudo_labels
        if folder:
            return pseudo_labels.pool(self.dataset, ids, folder)
        return examples.pool(self.dataset, ids, labeled=False)

    def _classes(self):
        """float32 [N, C]: what the images of `image_labeled` show."""
        ids = self.image_labeled()
        shown = np.zeros([len(ids), self.info.num_classes], np.float32)
        shown[:, 0] = 1
        for row, name in zip(shown, ids):
            row[list(self.dataset.records[name].classes)] = 1
        return shown

    def validation_batches(self, ids=None):
        """Whole images with labels; of all validation images, or of some."""
        whole = ids is None
        return pipeline.evaluation_batches(
            examples.pool(
                self.dataset, self.split.validation if whole else ids
            ),
            batch=self.config.evaluate.batch if whole else 1,
        )

    def training_pool(self):
        """All images that training reads, as a pool without labels."""
        parts = (self.split.labeled, self.split.unlabeled)
        names = sorted({*self.split.validation}.union(*parts))
        return examples.pool(self.dataset, names, labeled=False)


def open_all(config):
    """The domains of a config, all of their files checked.

    Raises:
      ValueError: lists what is wrong, before any training.
    """
    found = []
    for number, (name, own) in enumerate(
        config_lib.domain_configs(config).items()
    ):
        dataset = examples.open_dataset(own)
        split = examples.checked_split(own, dataset)
        found.append(Domain(name, number, own, dataset, split))
    return found
