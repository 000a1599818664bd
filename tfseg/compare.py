# SPDX-License-Identifier: Apache-2.0
"""Several configs over several seeds, each trained and tested, in one table."""

import os
import statistics

from tfseg import evaluate, runs, train


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

    Args:
      configs: dict, name -> function of a seed that returns a ConfigDict.
      seeds: ints.
      workdir: folder; a run is in `<workdir>/<name>/<seed>`. Gets
        `comparison.json`.

    Returns:
      dict, name -> list of what `train_and_evaluate` returns, by seed.
    """
    results = {}
    for seed in seeds:
        for name, get_config in configs.items():
            folder = os.path.join(workdir, name, str(seed))
            result = _finished(folder, get_config(seed))
            results.setdefault(name, []).append(result)
    runs.write_json(
        os.path.join(workdir, "comparison.json"),
        {"seeds": list(seeds), "results": results},
    )
    return results


def _finished(folder, config):
    """What is written there, else what training gives."""
    path = os.path.join(folder, "result.json")
    if os.path.exists(path):
        # Refuses results of another config.
        runs.claim(folder, config)
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
    text = f"{100 * statistics.mean(values):{sign}.1f}"
    if len(values) > 1:
        text += f" +- {100 * statistics.stdev(values):.1f}"
    return text
