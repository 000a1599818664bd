# SPDX-License-Identifier: Apache-2.0
r"""How much the two networks of a pair agree, while they are trained.

    python -m launch.analyze --study=overlap --workdir=runs/overlap \
        --runs=runs/digits_cps,runs/digits_cps_cutmix

Of the pixels that at least one network takes for something other than the
background, the share on which both say the same class: on the labeled images,
on the unlabeled ones and on all, as training has logged it (means over
`train.report_every` steps of the batches, not passes over the whole sets).

Source: Chen et al. 2021, supplement, Figure 7. The paper leaves the background
out; whose background, it does not say: here a pixel is left out that both take
for background. The official code does not compute it.
"""

import json
import os

from matplotlib import figure

from tfseg import runs as run_files

# Tag in metrics.jsonl -> what it is called, in the order of Figure 7.
_CURVES = {
    "train/overlap_labeled": "labeled",
    "train/overlap_unlabeled": "unlabeled",
    "train/overlap": "all",
}


def run(*, workdir, runs):
    """Draws the overlap of runs side by side; writes overlap.json and .png.

    Args:
      workdir: folder to write to; it is made.
      runs: workdirs of `launch.train`, of a method with two networks.

    Returns:
      dict, what is in overlap.json: name of the run -> method, steps, and the
      values of labeled, unlabeled and all at these steps.

    Raises:
      ValueError: a folder holds no such run.
    """
    if not runs:
        raise ValueError("`runs` must name runs. Fix: --runs=runs/digits_cps")
    result = {os.path.normpath(folder): _read(folder) for folder in runs}
    os.makedirs(workdir, exist_ok=True)
    run_files.write_json(os.path.join(workdir, "overlap.json"), result)
    _draw(result).savefig(os.path.join(workdir, "overlap.png"), dpi=120)
    return result


def text(result):
    """A line for each run: the overlap at the first, middle and last report."""
    width = max(len(name) for name in result)
    lines = []
    for name, curves in result.items():
        steps = curves["steps"]
        for place in (0, len(steps) // 2, len(steps) - 1):
            values = "  ".join(
                f"{part} {curves[part][place]:6.1%}"
                for part in _CURVES.values()
            )
            lines.append(f"{name:{width}}  step {steps[place]:>6}  {values}")
    return "\n".join(lines)


def _read(folder):
    config = run_files.read_json(os.path.join(folder, "config.json"))
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if set(_CURVES) <= row.keys()]
    if not rows:
        raise ValueError(
            f"{folder} has no overlap: its method "
            f"{config['method']['name']!r} does not train two networks. Fix: "
            "name runs of cps, cps_cutmix or cpc."
        )
    return {
        "method": config["method"]["name"],
        "steps": [row["step"] for row in rows],
        **{name: [row[tag] for row in rows] for tag, name in _CURVES.items()},
    }


def _draw(result):
    picture = figure.Figure(
        figsize=(4.2 * len(result), 3.2), layout="constrained"
    )
    panels = picture.subplots(1, len(result), sharey=True, squeeze=False)[0]
    for panel, (name, curves) in zip(panels, result.items()):
        for part in _CURVES.values():
            panel.plot(curves["steps"], curves[part], label=part)
        panel.set_title(f"{curves['method']} ({os.path.basename(name)})")
        panel.set_xlabel("step")
        panel.set_ylim(0, 1)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share of pixels on which both agree")
    panels[0].legend(loc="lower right")
    return picture
