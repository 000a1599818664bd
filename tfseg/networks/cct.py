# SPDX-License-Identifier: Apache-2.0
"""The network of CCT (Ouali et al., arXiv 2003.09005; code yassouali/CCT).

A dilated ResNet-50 with pyramid pooling encodes an image to a map z of 512
channels at stride 8, not negative, which the auxiliary decoders perturb. The
decoder is a 1x1 convolution to the classes and three sub-pixel convolutions.

Where paper and code differ: the code has a ReLU before every shuffle, also
the last, so that no logit is negative; the layer table of the paper (Table 8
of its supplement) names none. Without them the decoder would be linear, and
the published weights need them: they are the default, `sub_pixel_relu=False`
is the table. The code resizes to the input only while training, and evaluates
on sizes padded to a multiple of 8; here logits always have the input size.
"""

import functools

from tfseg.networks import base
from tfseg.networks.encoders import resnet
from tfseg.networks.layers import batch_norm as batch_norms
from tfseg.networks.layers import convolution, pyramid_pooling, sub_pixel

FILTERS = 512
BINS = (1, 2, 3, 6)


class Encoder(base.Encoder):
    """ResNet features; the top one is that of the pyramid pooling on it.

    Args:
      network: ResNet.
      batch_norm: function that makes a BatchNorm layer of the pyramid.
    """

    def __init__(self, network, batch_norm):
        channels = {**network.feature_channels, network.top: FILTERS}
        super().__init__(
            feature_channels=channels,
            output_stride=network.output_stride,
            architecture=network.architecture,
            normalization=network.normalization,
        )
        self.resnet = network
        self.pyramid = pyramid_pooling.PyramidPooling(
            FILTERS,
            BINS,
            hidden=network.feature_channels[network.top] // len(BINS),
            batch_norm=batch_norm,
            initializer=convolution.pytorch_default,
        )
        self.build(base.IMAGE_SHAPE)

    @property
    def backbone(self):
        return self.resnet

    def features(self, image, training):
        features = self.resnet.features(image, training)
        top = self.pyramid(features[self.top], training=training)
        return {**features, self.top: top}


class Decoder(base.Decoder):
    """z -> logits at eight times its size.

    Args:
      num_classes: C.
      top: name of the feature z.
      relu: whether there is a ReLU before every shuffle.
    """

    def __init__(self, num_classes, top, relu):
        super().__init__()
        self.top = top
        self.relu = relu
        self.classifier = convolution.convolution(num_classes, dtype="float32")
        self.upsample = [
            sub_pixel.SubPixel(
                num_classes, "relu" if relu else None, dtype="float32"
            )
            for _ in range(3)
        ]

    @property
    def sub_pixel_weights(self):
        """What `ops.sub_pixel_decoders` takes, instead of calling this."""
        layers = [self.classifier, *self.upsample]
        return [weight for layer in layers for weight in layer.weights]

    def embed(self, features, training=None):
        return features[self.top]

    def logits(self, embedding, training=None):
        logits = self.classifier(embedding)
        for layer in self.upsample:
            logits = layer(logits)
        return logits


def build(
    *,
    num_classes,
    sub_pixel_relu=True,
    weights="",
    normalization="torch",
    dilated_conv="auto",
    batch_norm=None,
):
    """The network.

    Args:
      num_classes: classes including the background.
      sub_pixel_relu: whether a ReLU comes before every shuffle (the code) or
        none (the paper's table).
      weights: of the ResNet, see `weights.pretrained.load`; "" for none.
      normalization: see `base.NORMALIZATIONS`.
      dilated_conv: see `layers.dilated.Conv2D`.
      batch_norm: mapping, see `layers.batch_norm.factories`; `frozen` is for
        the ResNet alone.

    Returns:
      base.Network; its top feature is "stride8".

    Raises:
      ValueError: for an unknown choice or unfit weights.
    """
    base.check_num_classes(num_classes)
    encoder_norm, decoder_norm = batch_norms.factories(batch_norm)
    network = resnet.build(
        output_stride=8,
        multi_grid=(1, 1, 1),
        dilate_first_block=False,
        normalization=normalization,
        dilated_conv=dilated_conv,
        batch_norm=encoder_norm,
    )
    encoder = Encoder(network, decoder_norm)
    make_decoder = functools.partial(
        Decoder, num_classes, encoder.top, sub_pixel_relu
    )
    return base.Network(encoder, make_decoder, num_classes, weights)
