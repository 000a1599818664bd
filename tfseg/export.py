# SPDX-License-Identifier: Apache-2.0
"""The deployed network as a SavedModel that needs no tfseg."""

import json
import os
import tempfile

import tensorflow as tf
from absl import logging


class Deployed(tf.Module):
    """A network behind two signatures; see `export`.

    Args:
      network: keras.Model, float32 images in [0, 255] -> logits.
      classes: path of the JSON file that goes along.
    """

    def __init__(self, network, classes):
        super().__init__()
        # Only the variables are saved: Keras would add traces of every layer,
        # which a program that loads the model has no use for.
        self.network_variables = list(network.variables)
        self.classes = tf.saved_model.Asset(classes)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
            ]
        )
        def from_images(images):
            image = tf.cast(images, tf.float32)
            logits = tf.cast(network(image, training=False), tf.float32)
            return _outputs(tf.nn.softmax(logits))

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, "encoded")]
        )
        def from_encoded(encoded):
            return from_images(_decode(encoded))

        self.from_images = from_images
        self.from_encoded = from_encoded


def export(network, info, path, *, overwrite=False):
    """Writes a network as a SavedModel.

    Signatures: `serving_default` (images uint8 [B, H, W, 3], any size) and
    `from_encoded` (encoded string [B], JPEG or PNG files of one size). Both
    give class_map uint8 [B, H, W], probabilities float32 [B, H, W, C] and
    confidence float32 [B, H, W], the largest probability. Names and colors
    of the classes are in `assets/classes.json`.

    Args:
      network: keras.Model, float32 [B, H, W, 3] in [0, 255] -> logits.
      info: datasets.base.Info.
      path: folder to write.
      overwrite: replace an older SavedModel, or an empty folder.

    Raises:
      ValueError: something else is there, or there are too many classes.
      OSError: cannot write.
    """
    path = os.path.normpath(path)
    _check_free(path, overwrite)
    if info.num_classes > 256:
        raise ValueError(
            "`class_map` is uint8, so there can be at most 256 classes. "
            f"Received: {info.num_classes} classes."
        )
    parent = os.path.dirname(path) or "."
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".export_") as folder:
        new = os.path.join(folder, "new")
        _save(network, info, new, os.path.join(folder, "classes.json"))
        if os.path.lexists(path):
            # A folder cannot be replaced in one step; the old one goes last.
            os.rename(path, os.path.join(folder, "old"))
        os.rename(new, path)


def _check_free(path, overwrite):
    """Refuses to replace what is not asked for, or is no SavedModel."""
    if not os.path.lexists(path):
        return
    names = os.listdir(path) if os.path.isdir(path) else ["a file"]
    if names and "saved_model.pb" not in names:
        raise ValueError(
            f"{path} exists already and is no SavedModel (it has no "
            "saved_model.pb), so it is never replaced. Fix: choose another "
            "folder."
        )
    if not overwrite:
        raise ValueError(
            f"{path} exists already. Fix: choose another folder, or give "
            "--overwrite to replace it."
        )


def _save(network, info, path, classes):
    with open(classes, "w", encoding="utf-8") as file:
        json.dump(
            {
                "class_names": list(info.class_names),
                "palette": [list(color) for color in info.palette],
            },
            file,
            indent=2,
        )
    module = Deployed(network, classes)
    signatures = {
        "serving_default": module.from_images,
        "from_encoded": module.from_encoded,
    }
    # TensorFlow lists every variable that it renames inside, at INFO.
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        tf.saved_model.save(module, path, signatures=signatures)
    finally:
        logging.set_verbosity(verbosity)


def _outputs(prob):
    class_map = tf.argmax(prob, -1, output_type=tf.int32)
    return {
        "class_map": tf.cast(class_map, tf.uint8),
        "probabilities": prob,
        "confidence": tf.reduce_max(prob, -1),
    }


def _decode(encoded):
    """string [B] -> uint8 [B, H, W, 3]; gray and palette become RGB."""
    count = tf.size(encoded)
    some = tf.debugging.Assert(count > 0, ["`encoded` is empty."])
    with tf.control_dependencies([some]):
        images = tf.TensorArray(
            tf.uint8, count, element_shape=[None, None, 3], infer_shape=False
        )
    size = tf.constant([0, 0])
    for i in tf.range(count):
        image = tf.io.decode_image(
            encoded[i], channels=3, expand_animations=False
        )
        image = tf.ensure_shape(image, [None, None, 3])
        found = tf.shape(image)[:2]
        if i == 0:
            size = found
        tf.debugging.assert_equal(
            found,
            size,
            "The images of one call of `from_encoded` must all have one size "
            "(height, width). Send images of other sizes in calls of their "
            "own.",
        )
        images = images.write(i, image)
    return images.stack()
