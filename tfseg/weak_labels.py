# SPDX-License-Identifier: Apache-2.0
"""From the classes that images show to labels of their pixels.

A run of the method `image_classifier` learns which classes an image shows;
where it sees them, its class activation maps, becomes pseudo labels. Images
that also have a mask are labeled as well: who learns from the labels decides.

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), section 3.3; official
pseudo_labels/. There a dense conditional random field refines the labels.
"""

import hashlib
import json
import os
import time

import numpy as np
import tensorflow as tf
from absl import logging

from tfseg import domains, examples, pseudo_labels, runs, train
from tfseg.ops import class_activation

_METHOD = "image_classifier"
# What a folder that is not complete has been begun with.
_SETTINGS = "settings.json"


def write(config, workdir, folder, **thresholds):
    """Trains a classifier and labels its images; run again, it goes on.

    Args:
      config: ConfigDict, its method is `image_classifier`.
      workdir: of the run.
      folder: to write to, see tfseg.pseudo_labels.
      **thresholds: see `by_activation`.

    Raises:
      ValueError: another method, or the folder has labels by another
        classifier or other thresholds.
    """
    if config.method.name != _METHOD:
        raise ValueError(
            f"`config.method.name` must be {_METHOD!r}. Received: "
            f"{config.method.name!r}. Fix: a config such as "
            "configs/folder_cam.py"
        )
    dataset = examples.open_dataset(config)
    shown = [(x.id, x.classes) for x in dataset.records.values()]
    digest = hashlib.sha256(json.dumps(shown).encode()).hexdigest()
    asked = {**thresholds, "image_labels_sha256": digest}
    # Both before the training and when it is known what came of it.
    _check_settings(folder, asked)
    summary = train.train(config, workdir)
    settings = {**asked, "classifier_sha256": summary["sha256"]}
    _check_settings(folder, settings)
    if pseudo_labels.is_complete(folder):
        logging.info("%s is complete", folder)
        return
    start = time.perf_counter()
    (domain,) = domains.open_all(config)
    run, ids = runs.load(workdir), domain.image_labeled()
    look = by_activation(run, domain.dataset, **thresholds)
    os.makedirs(folder, exist_ok=True)
    runs.write_json(os.path.join(folder, _SETTINGS), settings)
    pseudo_labels.write(domain.dataset, ids, folder, look)
    seconds = summary["seconds"] + time.perf_counter() - start
    pseudo_labels.describe(run, ids, folder, seconds=seconds, **settings)


def by_activation(run, dataset, *, scales, foreground, background):
    """`look` of `pseudo_labels.write`: labels from activation maps.

    Args:
      run: runs.Run, a classifier.
      dataset: datasets.base.Dataset, whose records have `classes`.
      scales: at which the network looks at an image and its mirror image.
      foreground, background: see `ops.class_activation.pseudo_label`.
    """

    def maps(image):
        features = run.network.encoder(image, training=False)
        embedding = run.network.decoder.embed(features, training=False)
        return run.network.decoder.logits(embedding, training=False)[..., 1:]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([run.info.num_classes - 1], tf.float32),
        ]
    )
    def label(image, shown):
        activation = class_activation.normalized(
            class_activation.multi_scale_maps(maps, image, scales), shown
        )
        label = class_activation.pseudo_label(
            activation, shown, foreground=foreground, background=background
        )
        highest = tf.round(255 * tf.reduce_max(activation, -1))
        return tf.cast(label, tf.uint8), tf.cast(highest, tf.uint8)

    def look(name, image):
        shown = np.zeros([run.info.num_classes], np.float32)
        shown[list(dataset.records[name].classes)] = 1
        return [part.numpy() for part in label(image, shown[1:])]

    return look


def _check_settings(folder, settings):
    path = os.path.join(folder, _SETTINGS)
    if not os.path.exists(path):
        return
    before = runs.read_json(path)
    before = {name: before.get(name) for name in settings}
    if before != settings:
        raise ValueError(
            f"{folder} has labels by other settings: {before}, asked for "
            f"{settings}. Fix: use those, or another --output (and --workdir, "
            "where the image labels have changed)."
        )
