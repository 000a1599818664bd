# SPDX-License-Identifier: Apache-2.0
"""What every network is: an encoder to named features, then a decoder."""

import tensorflow as tf
from tensorflow import keras

from tfseg.networks.layers import resize
from tfseg.networks.weights import pretrained

IMAGE_SHAPE = (None, None, None, 3)

# No layer needs AutoGraph, and its rewriting makes tracing slower.
_as_written = tf.autograph.experimental.do_not_convert

# Mean and standard deviation per channel, RGB in [0, 255], that an encoder
# was trained with: PyTorch's, and that of the Caffe models (keras.applications
# ResNet and VGG).
NORMALIZATIONS = {
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
}


class Encoder(keras.Model):
    """image -> {"image_size": int32 [2], "stride4": ..., "stride16": ...}.

    A feature is named after its stride; of several stages with the same
    stride it is the deepest one. A subclass writes `features(image, training)`.

    Args:
      feature_channels: dict, name of feature -> number of channels, shallow
        to deep. The last one is `top`, which feature perturbations work on.
      output_stride: image pixels per pixel of the top feature.
      architecture: what published weights of it are called, for example
        "resnet50"; "" if there are none.
      normalization: key of NORMALIZATIONS, for `normalize`.
    """

    def __init__(
        self,
        *,
        feature_channels,
        output_stride,
        architecture="",
        normalization="torch",
        **kwargs,
    ):
        # An image in [0, 255] is not for half precision: bfloat16 would
        # round it before it is normalized.
        super().__init__(autocast=False, **kwargs)
        check_choice("normalization", normalization, tuple(NORMALIZATIONS))
        self.feature_channels = feature_channels
        self.output_stride = output_stride
        self.architecture = architecture
        self.normalization = normalization
        self.top = list(feature_channels)[-1]
        self.pretrained = False

    @property
    def backbone(self):
        """The part of which there are published weights: an Encoder."""
        return self

    @property
    def pretrained_variables(self):
        """Variables that came from a file; empty if trained from scratch."""
        return self.backbone.variables if self.backbone.pretrained else []

    def normalize(self, image):
        """RGB in [0, 255] -> about zero mean, as the weights want it."""
        mean, std = NORMALIZATIONS[self.normalization]
        return (image - tf.constant(mean)) / tf.constant(std)

    def features(self, image, training):
        """Dict of named features of a float32 image in [0, 255]."""
        raise NotImplementedError

    def call(self, image, training=None):
        """Features, each of compute dtype, and the size of the image."""
        _check_image(image)
        image = tf.cast(image, tf.float32)
        features = _as_written(self.features)(image, training)
        return {"image_size": tf.shape(image)[1:3], **features}


class Decoder(keras.layers.Layer):
    """The encoder's dict -> logits, in two steps.

    A subclass writes `embed`, the map on which the classifier works, and
    `logits`, what the classifier makes of it, before it is resized.

    Attributes:
      align_corners: how logits and maps are resized, see `resize.bilinear`.
    """

    align_corners = True

    def embed(self, features, training=None):
        """[B, h, w, K] of compute dtype."""
        raise NotImplementedError

    def logits(self, embedding, training=None):
        """float32 [B, h', w', C]."""
        raise NotImplementedError

    def classify(self, embedding, image_size, training=None):
        """float32 logits [B, *image_size, C]."""
        logits = self.logits(embedding, training=training)
        return self.resize(logits, image_size)

    def resize(self, x, size):
        """Resizes maps bilinearly to `size`, int32 [2]."""
        return resize.bilinear(x, size, align_corners=self.align_corners)

    def call(self, features, training=None):
        embedding = _as_written(self.embed)(features, training=training)
        return self.classify(
            embedding, features["image_size"], training=training
        )


class Network(keras.Model):
    """float32 image [B, H, W, 3] in [0, 255] -> float32 logits [B, H, W, C].

    All variables exist after construction.

    Args:
      encoder: Encoder.
      make_decoder: function without arguments that makes a Decoder.
      num_classes: C.
      weights: published weights of the encoder's backbone, see
        `weights.pretrained.load`; "" for none.
    """

    def __init__(
        self, encoder, make_decoder, num_classes, weights="", **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_classes = num_classes
        self.encoder = encoder
        self._make_decoder = make_decoder
        self.decoder = make_decoder()
        self._build_decoder()
        self.built = True
        if weights:
            pretrained.load(encoder.backbone, weights)
            encoder.backbone.pretrained = True

    def call(self, image, training=None):
        features = self.encoder(image, training=training)
        return self.decoder(features, training=training)

    def _build_decoder(self):
        """Creates its variables; the encoder has made its own already."""
        dtype = self.compute_dtype
        features = {
            name: tf.TensorSpec([None, None, None, channels], dtype)
            for name, channels in self.encoder.feature_channels.items()
        }
        features["image_size"] = tf.TensorSpec([2], tf.int32)
        tf.function(self.decoder).get_concrete_function(features)

    def new_decoder(self):
        """Another decoder of the same form, with variables of its own."""
        return self.on(self.encoder).decoder

    def on(self, encoder):
        """A network of the same form and number of classes on an encoder.

        Args:
          encoder: Encoder with the features of this network's.

        Returns:
          Network that shares the encoder; its decoder has variables of its
          own.

        Raises:
          ValueError: if the features differ.
        """
        needed = list(self.encoder.feature_channels.items())
        found = list(encoder.feature_channels.items())
        if found != needed:
            raise ValueError(
                "`encoder` must have the features and channels of the "
                f"network's own, {_listed(needed)}. Received: "
                f"{_listed(found)}. Build both networks with the same options."
            )
        return Network(encoder, self._make_decoder, self.num_classes)


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


def check_dilations(name, values):
    """Raises ValueError unless there are dilations, all of 1 or more."""
    if not values or min(values) < 1:
        raise ValueError(
            f"`{name}` must be dilations of at least 1. "
            f"Received: {name}={tuple(values)}."
        )


def _listed(features):
    return ", ".join(f"{name}: {channels}" for name, channels in features)


def _check_image(image):
    shape = image.shape.as_list()
    if len(shape) != 4 or shape[3] != 3 or 0 in shape[1:3]:
        raise ValueError(
            "`image` must be [batch, height, width, 3], not empty, with 3 "
            f"channels (RGB). Received: shape={tuple(shape)}. Convert gray "
            "images to RGB and drop an alpha channel."
        )
