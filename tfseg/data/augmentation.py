# SPDX-License-Identifier: Apache-2.0
"""The settings of augmentation, one object for all views."""

import dataclasses

from tfseg.data import geometry, photometric


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """See `tfseg.config.base_config` for the meaning of each field."""

    crop: tuple
    scale: tuple
    flip_rate: float
    jitter: tuple
    jitter_rate: float
    gray_rate: float
    blur_rate: float
    blur_sigma: tuple
    pad_color: tuple
    rotation: float = 0.0
    vertical_flip_rate: float = 0.0
    transpose_rate: float = 0.0
    pair_offset: float = 16
    pair_teacher: str = "unchanged"
    overlap_range: tuple = (0.1, 1.0)
    overlap_stride: int = 8

    @classmethod
    def of(cls, data):
        """The fields of `config.data` that are about augmentation."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: data[name] for name in names})

    @property
    def _upright(self):
        return not (self.rotation or self.transpose_rate)

    def random_window(self, image_size, seed):
        """float32 [3, 3], see `geometry.random_window`."""
        return geometry.random_window(
            image_size,
            seed,
            crop=self.crop,
            scale=self.scale,
            flip_rate=self.flip_rate,
            rotation=self.rotation,
            vertical_flip_rate=self.vertical_flip_rate,
            transpose_rate=self.transpose_rate,
        )

    def warp_image(self, image, matrix):
        """float32 [h, w, 3] and bool [h, w], see `geometry.warp_image`."""
        return geometry.warp_image(
            image,
            matrix,
            crop=self.crop,
            pad_color=self.pad_color,
            upright=self._upright,
        )

    def warp_label(self, label, matrix):
        """int32 [h, w], see `geometry.warp_label`."""
        return geometry.warp_label(
            label, matrix, crop=self.crop, upright=self._upright
        )

    def strong(self, image, valid, seed):
        """float32 [h, w, 3]: `photometric.strong`, padding left as it is."""
        changed = photometric.strong(
            image,
            seed,
            jitter=self.jitter,
            jitter_rate=self.jitter_rate,
            gray_rate=self.gray_rate,
            blur_rate=self.blur_rate,
            blur_sigma=self.blur_sigma,
        )
        return geometry.pad(
            changed, valid, self.pad_color, upright=self._upright
        )
