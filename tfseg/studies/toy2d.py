# SPDX-License-Identifier: Apache-2.0
r"""When consistency helps: points in a plane, with and without a gap.

    python -m launch.analyze --study=toy2d --workdir=runs/toy2d

Two classes of points meet along a curve; ten points have labels. With a gap,
no points lie near the curve; without, they cover the plane evenly, as the
patches of photographs do. A mean teacher wants the same answer for a point
and for a perturbed one. Isotropic perturbations take points across the curve
as often as along it: with a gap the boundary settles there, without one they
are no better than supervision alone. Constrained ones are kept only if they
do not change the distance from the true boundary, which no one knows in
practice: they show which perturbations would help.

Error rates of seeds 0, 1 and 2; a run of 2,000 steps takes two minutes on two
cores:

                              seed 0    seed 1    seed 2    mean (s.d.)
    supervised alone, gap      4.45 %    2.48 %    3.98 %    3.6 (1.0)
    supervised alone, no gap  10.06 %    9.24 %   11.53 %   10.3 (1.2)
    isotropic, gap             0.03 %    0.00 %    0.05 %    0.03 (0.02)
    isotropic, no gap         11.18 %    9.02 %   11.94 %   10.7 (1.5)
    constrained, no gap        3.63 %    3.25 %    3.84 %    3.6 (0.3)

Source: French et al. 2020, section 3.2 and supplement C; toy2d_train.py and
toy2d/generate_data.py. Where the official code differs from the paper, this
follows the paper. Deliberate differences from the code:
- Binary cross-entropy, summed over the classes, with weight 10. There squared
  differences of probabilities, mean over the classes; constrained: of logits,
  with weight 1.
- No BatchNorm and no dropout. There both; constrained: no BatchNorm, and
  dropout for labeled points only.
- One perturbation, 0.117 (30 pixels of 512), for all. There 6 pixels with the
  gap.
- The mean goes over the perturbations that the constraint keeps, as there (the
  paper does not say); of none it is 0, there NaN.
- The curve is a formula. The gap, 35 pixels to each side, is measured in
  Euclidean distance. Beyond the image the distance map continues.
- Labeled points are spread along the curve, one of each class in each fifth of
  the width, 35 to 55 pixels away from it. There they are drawn from all points
  of the data with the gap, and a good result takes several tries (TOY2D.md).
- Unlabeled points are drawn with replacement and jittered anew in each step.
  Errors are those at the centers of all pixels that have points.
- 2,000 steps; there 51,200, with the gap less.
"""

import os
import time

from absl import logging

from tfseg import runs
from tfseg.studies.toy import figures, plane, training

# Side of the image, pixels.
_SIZE = 512
_NUM_LABELED = 10
# Half of the gap's width, and where the labeled points are beyond it.
_GAP = 35 * 2 / 512
_BAND = 20 * 2 / 512

# Perturbation, and whether the data has a gap. Supervised alone does not see
# the unlabeled points: one training, looked at with both.
_TRAININGS = (
    ("none", (True, False)),
    ("isotropic", (True,)),
    ("isotropic", (False,)),
    ("constrained", (False,)),
)


def run(*, workdir, seed=0, steps=2000):
    """Trains all cases; writes toy2d.json and toy2d.png.

    Args:
      workdir: folder to write to; it is made.
      seed: of the labeled points, the first weights and all draws.
      steps: optimizer steps of each training.

    Returns:
      dict, what is in toy2d.json: seed, steps and cases, a list of dicts of
      case (its name), perturbation, gap, error_rate over all num_points, and
      the means of the last steps (see training.train).

    Raises:
      ValueError: if `seed` or `steps` does not fit.
    """
    _check(seed, steps)
    os.makedirs(workdir, exist_ok=True)
    distance = plane.signed_distance(plane.ground_truth(_SIZE))
    labeled = plane.labeled(
        distance, count=_NUM_LABELED, gap=_GAP, band=_BAND, seed=seed
    )
    cases, panels = [], []
    for perturbation, gaps in _TRAININGS:
        pixels = [plane.away(distance, _GAP if gap else 0) for gap in gaps]
        start = time.monotonic()
        teacher, means = training.train(
            training.Data(distance, labeled, pixels[0]),
            perturbation,
            steps=steps,
            seed=seed,
        )
        predicted = training.predict(teacher, _SIZE)
        seconds = time.monotonic() - start
        for gap, there in zip(gaps, pixels):
            wrong = (predicted != (distance > 0)).ravel()[there]
            case = {
                "case": _name(perturbation, gap),
                "perturbation": perturbation,
                "gap": gap,
                "error_rate": float(wrong.mean()),
                "num_points": len(there),
                **means,
            }
            cases.append(case)
            logging.info(
                "%s: error rate %.2f %%, trained in %.0f s",
                case["case"],
                100 * case["error_rate"],
                seconds,
            )
            panels.append((case, there, predicted))
    result = {"seed": seed, "steps": steps, "cases": cases}
    runs.write_json(os.path.join(workdir, "toy2d.json"), result)
    figures.draw(os.path.join(workdir, "toy2d.png"), panels, distance, labeled)
    return result


def text(result):
    """A result for people.

    Args:
      result: of `run`.

    Returns:
      str of several lines.
    """
    lines = [f"{'case':26}{'error rate':>10}"]
    for case in result["cases"]:
        lines.append(f"{case['case']:26}{case['error_rate']:>10.2%}")
    return "\n".join(lines)


def _name(perturbation, gap):
    supervised = perturbation == "none"
    learning = "supervised alone" if supervised else perturbation
    return f"{learning}, {'gap' if gap else 'no gap'}"


def _check(seed, steps):
    if not 0 <= seed < 2**31:
        raise ValueError(
            f"`seed` must be in [0, 2**31). Received: seed={seed}."
        )
    if steps < 1:
        raise ValueError(f"`steps` must be 1 or more. Received: steps={steps}.")
