# SPDX-License-Identifier: Apache-2.0
import json

from tfseg.datasets import base


def test_voc_palette_is_the_published_one():
    palette = base.voc_palette(256)
    # Background, aeroplane, bicycle, ..., train, tv monitor, void.
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[8] == (64, 0, 0)
    assert palette[19:21] == ((128, 192, 0), (0, 64, 128))
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256
    assert base.voc_palette(0) == ()


def test_info_survives_json():
    for ignore_color in ((224, 224, 192), None):
        info = base.Info("x", ("a", "b"), ((1, 2, 3), (4, 5, 6)), ignore_color)
        assert info.num_classes == 2
        stored = json.loads(json.dumps(info.to_dict()))
        assert base.Info.from_dict(stored) == info


def test_mask_code_ends_with_ignored():
    code = base.Info("x", ("a",), ((1, 2, 3),), (9, 9, 9)).mask_code()
    assert code.colors == ((1, 2, 3), (9, 9, 9))
    assert code.color_labels == (0, 255)
    assert code.index_labels == tuple(range(256))
    code = base.Info("x", ("a",), ((1, 2, 3),), None).mask_code()
    assert (code.colors, code.color_labels) == (((1, 2, 3),), (0,))
