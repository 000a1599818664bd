# SPDX-License-Identifier: Apache-2.0
import re

from tfseg.networks.encoders import vgg
from tfseg.networks.weights.names import vgg as names

# torchvision's features: a number is a convolution's width, "M" a pooling;
# each convolution is followed by a ReLU.
LAYERS = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M".split()


def modules(batch_norm=False):
    """Names and widths of torchvision's modules that have parameters."""
    result, index = {}, 0
    for layer in LAYERS:
        if layer == "M":
            index += 1
            continue
        result[f"features.{index}"] = int(layer)
        if batch_norm:
            result[f"features.{index + 1}"] = int(layer)
        index += 3 if batch_norm else 2
    result.update({f"classifier.{n}": None for n in (0, 3, 6)})
    return result


def translate(name):
    """Paths of ours that the rules give for a name of torchvision's."""
    return [
        re.sub(pattern, replacement, name)
        for pattern, replacement in names.RULES
        if re.fullmatch(pattern, name)
    ]


def is_dropped(name):
    return any(re.fullmatch(pattern, name) for pattern in names.DROPPED)


def test_every_convolution_has_its_layer():
    encoder = vgg.build()
    found = {}
    for name, width in modules().items():
        if is_dropped(name):
            assert name.startswith("classifier.") and not translate(name)
            continue
        (path,) = translate(name)
        word, stage, layer = path.split("/")
        found[path] = getattr(encoder, word)[int(stage)][int(layer)].filters
        assert found[path] == width
    assert found.keys() == {
        f"stages/{stage}/{layer}"
        for stage, widths in enumerate(vgg.FILTERS)
        for layer in range(len(widths))
    }


def test_the_numbers_are_torchvisions():
    assert translate("features.0") == ["stages/0/0"]
    assert translate("features.7") == ["stages/1/1"]
    assert translate("features.28") == ["stages/4/2"]
    assert translate("features.30") == translate("xfeatures.0") == []
    assert not is_dropped("classifier.1")


def test_the_variant_with_batch_norm_is_left_over():
    unknown = [
        name
        for name in modules(batch_norm=True)
        if not translate(name) and not is_dropped(name)
    ]
    assert "features.1" in unknown and len(unknown) > 13
