# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tests import miniature


def test_networks_suite_prints_a_table_and_adds_records(tmp_path):
    path = tmp_path / "benchmark.jsonl"
    path.write_text('{"case": "an older one"}\n')
    result = miniature.run(
        "benchmark",
        "--suite=networks",
        "--networks=fcn",
        "--size=32",
        "--batch=1",
        "--repeats=2",
        "--precision=float32,mixed_bfloat16",
        f"--json={path}",
    )
    assert result.returncode == 0, result.stderr
    heading, *rows = result.stdout.splitlines()
    assert heading.split()[:2] == ["case", "precision"]
    assert [row.split()[:2] for row in rows] == [
        ["fcn", "float32"],
        ["fcn", "mixed_bfloat16"],
    ]
    records = [json.loads(line) for line in path.read_text().splitlines()][1:]
    for record in records:
        assert record["suite"] == "networks" and record["case"] == "fcn"
        assert record["parameters"] == 302325
        assert 0 < record["forward_seconds"] < record["seconds"]
        assert record["ratio"] > 1 and record["peak_mib"] > 1
        assert record["device"] and record["tensorflow"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--suite=speed"], "Available: .*dilated_conv, evaluate, net"),
        (["--suite=networks", "--networks=deeplab"], "Did you mean 'deeplab_v"),
        (["--suite=networks", "--precision=half"], "half"),
        ([], "--suite"),
        (["--suite=networks", "--json=nowhere/x"], "directory: 'nowhere/x'"),
    ],
)
def test_bad_flags_are_named(words, message):
    import re

    result = miniature.run("benchmark", *words)
    assert result.returncode == 1
    assert re.search(message, result.stderr)
    assert not result.stdout, "work was done before"
    assert "Traceback" not in result.stderr
