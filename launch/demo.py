# SPDX-License-Identifier: Apache-2.0
"""The whole line on the embedded data set: python -m launch.demo

Writes the data set, trains on the labeled scenes alone and then with the
unlabeled ones (CutMix mean teacher; same labels, network, labeled batch and
steps), evaluates both on the test scenes, exports the better network, and
draws both beside the truth. Run again, it goes on where it was.
"""

import os

from absl import flags

from launch import entry

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder of results.")
_DATA = flags.DEFINE_string("data", "data/digits", "Folder of the data set.")
_LABELS = flags.DEFINE_integer("labels", 80, "Scenes with masks.")
_STEPS = flags.DEFINE_integer("steps", 3000, "Training steps of each method.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of weights, order, augmentation and choice of labeled scenes."
)
_PICTURED = 5


def main(argv):
    del argv
    from configs import digits_cutmix, digits_supervised
    from tfseg import compare, export, runs
    from tfseg.datasets import digits

    digits.prepare(dir=_DATA.value)
    argument = (
        f"labels={_LABELS.value},steps={_STEPS.value},seed={_SEED.value},"
        f"dir={_DATA.value}"
    )
    results = {
        name: compare.train_and_evaluate(
            config.get_config(argument), _folder(name)
        )
        for name, config in [
            ("supervised", digits_supervised),
            ("semi_supervised", digits_cutmix),
        ]
    }
    better = max(results, key=lambda name: results[name]["validation_miou"])
    run = runs.load(_folder(better))
    saved_model = os.path.join(_WORKDIR.value, "saved_model")
    export.export(run.network, run.info, saved_model, overwrite=True)
    picture = os.path.join(_WORKDIR.value, "comparison.png")
    _draw(results, picture)
    summary = {
        **{
            name: {key: result[key] for key in ("miou", "validation_miou")}
            for name, result in results.items()
        },
        "labels": _LABELS.value,
        "steps": _STEPS.value,
        "seconds": round(sum(r["seconds"] for r in results.values()), 1),
        "picture": picture,
        "saved_model": saved_model,
    }
    runs.write_json(os.path.join(_WORKDIR.value, "summary.json"), summary)
    print(_table(results, summary))


def _folder(name):
    return os.path.join(_WORKDIR.value, name)


def _draw(names, path):
    from tfseg import examples, inference, report, runs
    from tfseg.data import pipeline

    predictors = {}
    for name in names:
        run = runs.load(_folder(name))
        title = name.replace("_", "-")
        predictors[title] = inference.Predictor(run.network)
    # All runs have the same data set and validation scenes; take the last.
    ids = runs.read_json(os.path.join(_folder(name), "split.json"))
    dataset = examples.open_dataset(run.config)
    pictured = pipeline.evaluation_batches(
        examples.pool(dataset, ids["validation"][:_PICTURED]), batch=1
    )
    report.comparison(pictured, predictors, run.info).save(path)


def _table(results, summary):
    lines = [
        f"{summary['labels']} labeled scenes, {summary['steps']} steps, "
        f"seed {_SEED.value}",
        f"{'':16} {'val mIoU':>9} {'test mIoU':>10} {'test accuracy':>14} "
        f"{'seconds':>8}",
    ]
    for name, result in results.items():
        lines.append(
            f"{name:16} {result['validation_miou']:>9.1%} "
            f"{result['miou']:>10.1%} {result['pixel_accuracy']:>14.1%} "
            f"{result['seconds']:>8.0f}"
        )
    lines.append(f"picture:     {summary['picture']}")
    lines.append(f"saved model: {summary['saved_model']}")
    return "\n".join(lines)


if __name__ == "__main__":
    entry.run(main)
