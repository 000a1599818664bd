# SPDX-License-Identifier: Apache-2.0
"""How good a network is on labeled images."""

import dataclasses
import os
import tempfile

import numpy as np
import tensorflow as tf

from tfseg import examples as example_lib
from tfseg import id_lists, inference, metrics, runs
from tfseg.data import check, pipeline


def evaluate(predictor, examples, info, absent="nan"):
    """mIoU, IoU of each class and pixel accuracy over a set of images.

    Args:
      predictor: inference.Predictor.
      examples: iterable of (image uint8 [B, H, W, 3], label int32 [B, H, W]),
        the images of a batch of one size; label 255 is not counted.
      info: datasets.base.Info.
      absent: what the mean does with a class that is neither there nor
        predicted: "nan" leaves it out, "zero" counts it as 0.

    Returns:
      dict: miou; iou [C], in the order of `class_names`; pixel_accuracy;
      class_names; share: of the labeled pixels, [C]; confusion_matrix: numpy
      int64 [C, C], rows are truth; absent; num_images. NaN where undefined.

    Raises:
      ValueError: no examples, or the network has other classes than `info`.
    """
    matrix = np.zeros([info.num_classes] * 2, np.int64)
    num_images = 0
    for images, labels in examples:
        prob = predictor(images)
        _check_classes(prob.shape[-1], info)
        prediction = tf.argmax(prob, -1, output_type=tf.int32)
        matrix += np.asarray(
            metrics.confusion_matrix(labels, prediction, info.num_classes)
        )
        num_images += len(labels)
    if not num_images:
        raise ValueError("There are no images to evaluate on.")
    return {
        **metrics.summarize(matrix, absent),
        "class_names": list(info.class_names),
        "share": matrix.sum(1) / max(matrix.sum(), 1),
        "confusion_matrix": matrix,
        "absent": absent,
        "num_images": num_images,
    }


def evaluate_run(
    workdir,
    *,
    checkpoint="best",
    network="",
    split="validation",
    absent=None,
    out=None,
    **options,
):
    """Evaluates a trained run and writes what came out.

    Args:
      workdir: of `launch.train`.
      checkpoint: "best", "last" or a path.
      network: see `runs.load`.
      split: "validation" or "test".
      absent: see `evaluate`; None = as in the run's config.
      out: file to write, its folder is made if need be; None =
        `evaluation.json` in the workdir.
      **options: see `open_predictor`.

    Returns:
      dict, see `evaluate`. Of a run on several data sets whose `network` is
      not given: `domains`, such a dict for each, and the means of miou and
      pixel_accuracy over them.

    Raises:
      ValueError: no such run, checkpoint or split, or `out` is not writable.
    """
    run = runs.load(workdir, checkpoint, network)
    out = out or os.path.join(workdir, "evaluation.json")
    _check_writable(out)
    further = [] if network else runs.further_domains(run)
    first = run.config.dataset.name if further else network
    results, reports = {}, {}
    for name in [first, *further]:
        if name in further:
            run = runs.load(workdir, checkpoint, name)
        predictor = open_predictor(run, **options)
        try:
            results[name] = evaluate(
                predictor,
                evaluation_examples(run, workdir, split),
                run.info,
                absent=absent or run.config.evaluate.absent,
            )
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
            _explain(run, split)
            raise
        reports[name] = to_json(results[name])
    report = {
        "split": split,
        "checkpoint": run.checkpoint,
        "network": network or "deployed",
        "step": run.step,
        **_over_domains(reports),
        "inference": predictor.settings(),
    }
    runs.write_json(out, report)
    return _over_domains(results)


def check_evaluation(what, split, ids, dataset):
    """Refuses a split that cannot be evaluated on.

    Args:
      what: whose split it is, for messages.
      split: its name.
      ids: of the images.
      dataset: datasets.base.Dataset.

    Raises:
      ValueError: there are no images, or some are gone or have no mask.
    """
    if not ids:
        raise ValueError(
            f"{what} has no {split} images. Give the data set a list "
            f"(splits/{split}.txt), and train after that."
        )
    gone = [name for name in ids if name not in dataset.records]
    if gone:
        raise ValueError(
            f"{len(gone)} {split} images are not in the data set any more: "
            f"{id_lists.shorten(gone)}. Fix: restore them, or train again "
            "without them."
        )
    bare = [name for name in ids if not dataset.records[name].label]
    if bare:
        raise ValueError(
            f"{len(bare)} {split} images have no mask: "
            f"{id_lists.shorten(bare)}. Add the masks to labels/, or take "
            "the ids off the list, and train after that."
        )


def evaluation_examples(run, workdir, split):
    """Whole images and labels of one split of a run.

    Args:
      run: runs.Run.
      workdir: of the run, for messages.
      split: "validation" or "test".

    Returns:
      tf.data.Dataset of (uint8 [B, H, W, 3], int32 [B, H, W]).

    Raises:
      ValueError: the run has no such split, or the data set has changed.
    """
    ids = run.split.get(split, ())
    dataset = example_lib.open_dataset(run.config)
    # Not the palette: what is shown may have other colors by now.
    before, now = (
        {"names": list(info.class_names)} for info in (run.info, dataset.info)
    )
    runs.check_classes(workdir, before, now)
    check_evaluation(f"The run in {workdir}", split, ids, dataset)
    return pipeline.evaluation_batches(
        example_lib.pool(dataset, ids), batch=run.config.evaluate.batch
    )


def _explain(run, split):
    """Names the files behind a failure to evaluate on one split of a run.

    Raises:
      ValueError: with the broken files.
    """
    dataset = example_lib.open_dataset(run.config)
    ids = run.split[split]
    records = {name: dataset.records[name] for name in ids}
    part = dataclasses.replace(dataset, records=records)
    example_lib.check_files(run.config, part, check.raise_on)
    check.raise_on(example_lib.pool(part, ids).damaged())


def _check_writable(path):
    """Before the work, so that its result is not lost; makes the folder."""
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if os.path.isdir(path):
            raise IsADirectoryError("it is a folder")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {error}. Fix: name another file, "
            "--out=FILE."
        ) from None


def _over_domains(results):
    """The only one, or all and the means over them."""
    if len(results) == 1:
        return next(iter(results.values()))
    means = {
        name: float(np.mean([result[name] for result in results.values()]))
        for name in ("miou", "pixel_accuracy")
    }
    return {**means, "domains": results}


def open_predictor(run, *, window=None, overlap=None, **options):
    """Predictor of a trained run.

    Args:
      run: runs.Run.
      window, overlap: see inference.Predictor; None = as the run validates.
      **options: see inference.Predictor.
    """
    config = run.config.evaluate
    return inference.Predictor(
        run.network,
        window=config.window if window is None else window,
        overlap=config.overlap if overlap is None else overlap,
        **options,
    )


def to_json(result):
    """The result of `evaluate` as it is written: IoU by name, null for NaN."""
    return {
        "num_images": result["num_images"],
        "miou": _number(result["miou"]),
        "pixel_accuracy": _number(result["pixel_accuracy"]),
        "absent": result["absent"],
        "iou": {
            name: _number(iou)
            for name, iou in zip(result["class_names"], result["iou"])
        },
        "class_names": result["class_names"],
        # Rows are truth, columns prediction; pixels.
        "confusion_matrix": result["confusion_matrix"].tolist(),
    }


def table(result):
    """The result of `evaluate_run`: class | IoU | share of pixels."""
    if "domains" in result:
        parts = [
            f"{name}\n{table(part)}\n"
            for name, part in result["domains"].items()
        ]
        mean = f"mean of the mIoUs {_percent(result['miou'])}"
        return "\n".join([*parts, mean])
    names = [*result["class_names"], "pixel accuracy"]
    width = max(len(name) for name in names)
    lines = [f"{'class':{width}}     IoU  share of pixels"]
    for name, iou, share in zip(
        result["class_names"], result["iou"], result["share"]
    ):
        lines.append(f"{name:{width}} {_percent(iou)} {share:>16.2%}")
    lines.append(f"{'mIoU':{width}} {_percent(result['miou'])}")
    accuracy = _percent(result["pixel_accuracy"])
    lines.append(f"{'pixel accuracy':{width}} {accuracy}")
    return "\n".join(lines)


def _check_classes(num_classes, info):
    if num_classes != info.num_classes:
        raise ValueError(
            f"The network predicts {num_classes} classes, but the data set "
            f"{info.name!r} has {info.num_classes}."
        )


def _number(value):
    return None if np.isnan(value) else float(value)


def _percent(value):
    return f"{'-':>7}" if np.isnan(value) else f"{value:>7.2%}"
