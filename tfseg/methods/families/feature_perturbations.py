# SPDX-License-Identifier: Apache-2.0
"""The perturbations of features that CCT draws in a step.

    i_vat     z + r, of L2 norm `vat_radius`, what changes the prediction most
    drop_out  channels are dropped
    g_cutout  a window of each predicted object is cut out
    con_msk   only objects are kept
    obj_msk   only what is around them is kept
    f_drop    the most active positions are dropped
    f_noise   z * (1 + n), n uniform in +-`noise_limit`

Source: Ouali et al., CVPR 2020 (arXiv 2003.09005), supplement, tables 9 and
10. See `ops.perturbations` for what is random in them.
"""

import functools

import tensorflow as tf

from tfseg import lookup
from tfseg.methods.families import checks
from tfseg.ops import adversarial, components, consistency, draws, perturbations
from tfseg.ops import sub_pixel_decoders as decoders

# In the order of the official code.
KINDS = (
    "i_vat",
    "drop_out",
    "g_cutout",
    "con_msk",
    "obj_msk",
    "f_drop",
    "f_noise",
)


def kinds(counts):
    """One kind for each decoder.

    Args:
      counts: mapping, kind -> number of decoders.

    Raises:
      ValueError: an unknown kind, a number below 0, or no decoder at all.
    """
    for kind, count in counts.items():
        if kind not in KINDS:
            raise ValueError(
                f"Unknown perturbation `config.method.decoders.{kind}`."
                f"{lookup.suggestion(kind, KINDS)} "
                f"Available: {', '.join(KINDS)}."
            )
        checks.not_negative(f"decoders.{kind}", count)
    found = tuple(kind for kind in KINDS for _ in range(counts.get(kind, 0)))
    if not found:
        raise ValueError(
            "`config.method.decoders` must have at least one decoder. "
            f"Received: {dict(counts)}."
        )
    return found


class Drawer:
    """Draws perturbations.

    Args:
      drop_rate: of a channel, DropOut.
      drop_threshold: range of F-Drop, shares of the largest activation.
      noise_limit: of F-Noise.
      erase, erase_by_side: see `ops.perturbations.cutout_windows`.
      max_objects, min_perimeter, outermost: see `ops.components.object_boxes`.
      vat_radius: L2 norm of a sample's perturbation, in the unit of z.
      vat_xi: root mean square of the first change, in the unit of z.
      vat_iterations: power iterations.

    Raises:
      ValueError: an unknown or missing option.
    """

    def __init__(
        self,
        *,
        drop_rate,
        drop_threshold,
        noise_limit,
        erase,
        erase_by_side,
        max_objects,
        min_perimeter,
        outermost,
        vat_radius,
        vat_xi,
        vat_iterations,
    ):
        checks.positive("perturbations.vat_xi", vat_xi)
        checks.not_negative("perturbations.vat_radius", vat_radius)
        checks.positive("perturbations.vat_iterations", vat_iterations)
        self.drop_rate = drop_rate
        self.drop_threshold = tuple(drop_threshold)
        self.noise_limit = noise_limit
        self.cutout = {"erase": erase, "by_side": erase_by_side}
        self.objects = {
            "max_objects": max_objects,
            "min_perimeter": min_perimeter,
            "outermost": outermost,
        }
        self.vat = {
            "xi": float(vat_xi),
            "radius": float(vat_radius),
            "iterations": vat_iterations,
        }

    @classmethod
    def of(cls, options):
        """A Drawer, with an answer to a wrong option."""
        lookup.check_arguments(cls, options, "config.method.perturbations")
        return cls(**options)

    def passes(self, names, images):
        """What the decoders must compute in a step, see `Method.passes`.

        Args:
          names: kinds.
          images: in the step.
        """
        directions = names.count("i_vat") * self.vat["iterations"]
        return [
            *[("decoder", images)] * len(names),
            *[("decoder_input", images)] * directions,
        ]

    def __call__(self, names, z, prediction, method):
        """A perturbation for each decoder.

        Args:
          names: kinds.
          z: float [B, h, w, D], without gradient.
          prediction: int32 [B, H, W], classes that the main decoder predicts.
          method: methods.base.Method, whose step and replicas draw.

        Returns:
          List of SpatialMask, Adversarial, ChannelMask and Factor of
          `ops.sub_pixel_decoders`.
        """
        boxes = None
        if "g_cutout" in names:
            # They cost more than all masks; every decoder cuts out its own.
            boxes = components.object_boxes(prediction, **self.objects)
        result = []
        for number, name in enumerate(names):
            seed = method.step_seed() + [0, number + 1]
            result.append(self._draw(name, z, prediction, boxes, seed, method))
        return result

    def _draw(self, name, z, prediction, boxes, seed, method):
        def uniform(*shape):
            return method.my_part(
                draws.uniform([method.global_rows(z), *shape], seed)
            )

        def normal():
            shape = [method.global_rows(z), *tf.unstack(tf.shape(z)[1:])]
            return method.my_part(tf.random.stateless_normal(shape, seed))

        if name == "i_vat":
            return decoders.Adversarial(normal, **self.vat)
        if name == "drop_out":
            return decoders.ChannelMask(
                perturbations.spatial_dropout_factor(
                    z, uniform(1, 1, z.shape[-1]), rate=self.drop_rate
                )
            )
        if name == "f_noise":
            return decoders.Factor(
                lambda: perturbations.feature_noise_factor(
                    z, seed, limit=self.noise_limit
                )
            )
        if name == "f_drop":
            mask = perturbations.random_feature_drop_mask(
                z, seed, threshold_range=self.drop_threshold
            )
        elif name == "g_cutout":
            mask = perturbations.guided_cutout_mask(
                z,
                boxes,
                uniform(boxes.shape[1], 2),
                size=tf.unstack(tf.shape(prediction)[1:]),
                **self.cutout,
            )
        elif name == "con_msk":
            mask = perturbations.context_mask(z, prediction)
        else:
            mask = perturbations.object_mask(z, prediction)
        return decoders.SpatialMask(mask)


def perturb(z, perturbation, predict):
    """z, perturbed.

    Args:
      z: float [B, h, w, D].
      perturbation: of a Drawer.
      predict: float [B, h, w, D] -> logits, of the decoder that sees it.
    """
    if isinstance(perturbation, decoders.Factor):
        return z * tf.cast(perturbation.factor(), z.dtype)
    if not isinstance(perturbation, decoders.Adversarial):
        return z * tf.cast(perturbation.mask, z.dtype)
    clean = tf.stop_gradient(z)
    direction = adversarial.direction(
        predict,
        clean,
        consistency.target("kld", predict(clean)),
        perturbation.noise(),
        distance=functools.partial(consistency.distance, "kld"),
        xi=perturbation.xi,
        iterations=perturbation.iterations,
    )
    return z + tf.cast(perturbation.radius * direction, z.dtype)
