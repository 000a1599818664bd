# SPDX-License-Identifier: Apache-2.0
"""What every network is: an encoder to named features, then a decoder."""

import tensorflow as tf
from tensorflow import keras

IMAGE_SHAPE = (None, None, None, 3)


class Encoder(keras.Model):
    """image -> {"image_size": int32 [2], "stride4": ..., "stride16": ...}.

    A feature is named after its stride; of several stages with the same
    stride it is the deepest one. A subclass writes `features(image, training)`.

    Args:
      feature_channels: dict, name of feature -> number of channels, shallow
        to deep. The last one is `top`, which feature perturbations work on.
      output_stride: image pixels per pixel of the top feature.
    """

    def __init__(self, *, feature_channels, output_stride, **kwargs):
        # An image in [0, 255] is not for half precision: bfloat16 would
        # round it before it is normalized.
        super().__init__(autocast=False, **kwargs)
        self.feature_channels = feature_channels
        self.output_stride = output_stride
        self.top = list(feature_channels)[-1]
        self.pretrained = False

    @property
    def pretrained_variables(self):
        """Variables that came from a file; empty if trained from scratch."""
        return self.variables if self.pretrained else []

    def load_pretrained(self, path):
        """Loads a file that `save_weights` of the same encoder wrote."""
        self.load_weights(path)
        self.pretrained = True

    def features(self, image, training):
        """Dict of named features of a float32 image in [0, 255]."""
        raise NotImplementedError

    def call(self, image, training=None):
        """Features, each of compute dtype, and the size of the image."""
        _check_image(image)
        features = self.features(tf.cast(image, tf.float32), training)
        return {"image_size": tf.shape(image)[1:3], **features}


class Network(keras.Model):
    """float32 image [B, H, W, 3] in [0, 255] -> float32 logits [B, H, W, C].

    All variables exist after construction.

    Args:
      encoder: Encoder.
      decoder: layer, the encoder's dict -> logits.
      num_classes: C.
    """

    def __init__(self, encoder, decoder, num_classes, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.num_classes = num_classes
        self.encoder = encoder
        self.decoder = decoder
        self.build(IMAGE_SHAPE)

    def call(self, image, training=None):
        features = self.encoder(image, training=training)
        return self.decoder(features, training=training)


def check_choice(name, value, choices):
    """Raises ValueError, listing the choices, if `value` is none of them."""
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}."
        )


def check_num_classes(num_classes):
    """Raises ValueError unless there are at least two classes."""
    if num_classes < 2:
        raise ValueError(
            "`num_classes` must be at least 2, counting the background. "
            f"Received: num_classes={num_classes}."
        )


def check_weights_exist(path):
    """Raises ValueError, naming the file, unless it exists."""
    if not tf.io.gfile.exists(path):
        raise ValueError(
            f"`weights` must name an existing file. Received: {path!r}. "
            "Write one with `network.encoder.save_weights(...)`, or leave "
            "`weights` empty to train from scratch."
        )


def _check_image(image):
    shape = image.shape.as_list()
    if len(shape) != 4 or shape[3] != 3 or 0 in shape[1:3]:
        raise ValueError(
            "`image` must be [batch, height, width, 3], not empty, with 3 "
            f"channels (RGB). Received: shape={tuple(shape)}. Convert gray "
            "images to RGB and drop an alpha channel."
        )
