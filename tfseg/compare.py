# SPDX-License-Identifier: Apache-2.0
"""Several configs over several seeds, each trained and tested, in one table."""

import os
import statistics

from tfseg import evaluate, runs, train

_RESULT = "result.json"


def train_and_evaluate(config, workdir):
    """Trains a run, or what is left of it, and tests its deployed network.

    Args:
      config: ConfigDict, see tfseg.config.
      workdir: folder of the run; gets `evaluation.json`.

    Returns:
      dict: miou and pixel_accuracy of the test images, validation_miou of the
      same weights (the best ones on validation), seconds of training.
    """
    summary = train.train(config, workdir)
    result = evaluate.evaluate_run(workdir, split="test")
    return {
        "miou": result["miou"],
        "validation_miou": summary["best_miou"],
        "pixel_accuracy": result["pixel_accuracy"],
        "seconds": summary["seconds"],
    }


def compare(configs, seeds, workdir):
    """Runs every config with every seed; run again, it goes on.

    What is wrong with the last one shows before the first one is trained.

    Args:
      configs: dict, name -> function of a seed that returns a ConfigDict.
      seeds: ints.
      workdir: folder; a run is in `<workdir>/<name>/<seed>`. Gets
        `comparison.json`.

    Returns:
      dict, name -> list of what `train_and_evaluate` returns, by seed.

    Raises:
      ValueError: something is wrong with a config or the data, or a folder
        holds the run of another config.
    """

    def folder(name, seed):
        return os.path.join(workdir, name, str(seed))

    for name, get_config in configs.items():
        _check(get_config, {seed: folder(name, seed) for seed in seeds})
    results = {}
    for seed in seeds:
        for name, get_config in configs.items():
            result = _finished(folder(name, seed), get_config(seed))
            results.setdefault(name, []).append(result)
    runs.write_json(
        os.path.join(workdir, "comparison.json"),
        {"seeds": list(seeds), "results": results},
    )
    return results


def _check(get_config, folders):
    """Of one config: its runs by seed, and its data if a run is left."""
    for seed, folder in folders.items():
        # Refuses results of another config.
        runs.claim(folder, get_config(seed))
    left = [seed for seed in folders if not _has_result(folders[seed])]
    for domain in train.check(get_config(left[0])) if left else ():
        what = f"The data set in {domain.config.dataset.dir}"
        evaluate.check_evaluation(
            what, "test", domain.split.test, domain.dataset
        )


def _has_result(folder):
    return os.path.exists(os.path.join(folder, _RESULT))


def _finished(folder, config):
    """What is written there, else what training gives."""
    path = os.path.join(folder, _RESULT)
    if _has_result(folder):
        return runs.read_json(path)
    result = train_and_evaluate(config, folder)
    runs.write_json(path, result)
    return result


def table(results):
    """Text: mean and standard deviation over the seeds, in percent.

    The last column is the difference to the first config, seed by seed.
    """
    first = next(iter(results.values()))
    width = max(len(name) for name in results)
    lines = [
        f"{'':{width}} {'val mIoU':>14} {'test mIoU':>14} "
        f"{'difference':>14} {'seconds':>8}"
    ]
    for name, rows in results.items():
        differences = [a["miou"] - b["miou"] for a, b in zip(rows, first)]
        lines.append(
            f"{name:{width}} "
            f"{spread([row['validation_miou'] for row in rows]):>14} "
            f"{spread([row['miou'] for row in rows]):>14} "
            f"{'' if rows is first else spread(differences, '+'):>14} "
            f"{statistics.mean(row['seconds'] for row in rows):>8.0f}"
        )
    return "\n".join(lines)


def spread(values, sign="-"):
    """'57.8 +- 6.0': mean and standard deviation, in percent."""
    if None in values:  # Nothing was validated.
        return "-"
    text = f"{100 * statistics.mean(values):{sign}.1f}"
    if len(values) > 1:
        text += f" +- {100 * statistics.stdev(values):.1f}"
    return text
