# SPDX-License-Identifier: Apache-2.0
from tfseg import examples
from tfseg.benchmarks import scale


def test_every_id_stands_for_a_real_image(tmp_path):
    scale.write(str(tmp_path), 300)
    config = scale._config(str(tmp_path))
    dataset = examples.open_dataset(config)
    assert len(dataset.records) == 300
    split = examples.checked_split(config, dataset)
    # One in a hundred has a mask; a fifth of the three validates.
    assert (len(split.labeled), len(split.validation)) == (2, 1)
    assert len(split.unlabeled) == 299
    batch = next(iter(scale._batches(config, dataset, split)))
    assert batch["labeled"]["image"].shape == (8, 64, 64, 3)
    assert batch["unlabeled"]["strong"].shape == (8, 64, 64, 3)


def test_records_of_the_suite():
    (record,) = scale.records((200,), repeats=1)
    assert record["case"] == "200 examples" and record["ratio"] == 1
    parts = ("open_seconds", "split_seconds", "batch_seconds")
    assert abs(sum(record[name] for name in parts) - record["seconds"]) < 1e-6
    assert set(scale.COLUMNS) < set(record)


def test_replicas_follow(monkeypatch):
    monkeypatch.setattr(scale, "records", lambda *args: iter(["records"]))
    monkeypatch.setattr(scale.replicas, "run", lambda **options: [options])
    first, options = scale.run(networks=1, methods=2, repeats=3)
    assert first == "records"
    assert options == {"networks": 1, "methods": 2, "repeats": 15}
