# SPDX-License-Identifier: Apache-2.0
"""A folder of your own images: labels of pixels from labels of images.

    python -m launch.pseudo_labels --config=configs/folder_cam.py:dir=PATH \
        --workdir=runs/my_cam

DIR/image_labels.txt says which classes images show, `ID<TAB>class, class` a
line. The classifier's encoder is that of `folder_supervised`; the same
arguments. It can also be trained alone:

    python -m launch.train --config=configs/folder_cam.py:dir=PATH \
        --workdir=runs/my_cam
"""

from configs import folder_supervised, weak_labels


def get_config(arg=""):
    config = folder_supervised.get_config(arg)
    weak_labels.set_classifier(config)
    return config
