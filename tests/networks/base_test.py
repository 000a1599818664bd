# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tensorflow import keras

from tests.networks import leaves
from tfseg.networks import fcn


def _build(num_classes, width=4, seed=0):
    keras.utils.set_random_seed(seed)
    return fcn.build(num_classes=num_classes, width=width)


def test_network_on_the_encoder_of_another():
    first, second = _build(3), _build(5, seed=1)
    joined = second.on(first.encoder)
    assert joined.encoder is first.encoder and joined.num_classes == 5
    for other in (first, second):
        own = {v.ref() for v in joined.decoder.variables}
        assert own and not own & {v.ref() for v in other.variables}
    assert [v.shape for v in joined.variables] == [
        v.shape for v in second.variables
    ]
    image = leaves.images(2, 16, 24, 3)
    assert joined(image).shape == (2, 16, 24, 5)
    expected = joined.decoder(first.encoder(image))
    np.testing.assert_array_equal(joined(image), expected)
    # With the decoder's values it is the network that the encoder is of.
    like_first = _build(3, seed=2).on(first.encoder)
    like_first.decoder.set_weights(first.decoder.get_weights())
    np.testing.assert_array_equal(like_first(image), first(image))
    # And it may be shared further.
    assert joined.new_decoder().count_params() == joined.decoder.count_params()


def test_features_that_do_not_fit_are_named():
    message = "`encoder` must have the features.*stride8: 32.*stride8: 48"
    with pytest.raises(ValueError, match=message):
        _build(3, width=8).on(_build(3, width=12).encoder)
