# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the table in the README's "how it is built"."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for folder in ("tfseg", "launch", "configs")
    for path in (ROOT / folder).rglob("*.py")
)
LAYERS = [
    {
        "config",
        "lookup",
        "id_lists",
        "index_pickle",
        "mask_code",
        "split_options",
    },
    {
        "schedules",
        "strategy",
        "metrics",
        "ensemble",
        "inference",
        "optimizers",
        "ops",
    },
    {"datasets", "data", "networks"},
    {"callbacks"},
    {"methods"},
    {
        "train",
        "benchmarks",
        "compare",
        "convert",
        "domains",
        "evaluate",
        "examples",
        "packed",
        "precision",
        "export",
        "inspection",
        "inspection_page",
        "inspection_pictures",
        "predict",
        "pseudo_labels",
        "report",
        "runs",
        "session",
        "studies",
        "weak_labels",
    },
    {"launch"},
]


def _layer(part):
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def _imports(path):
    """Full names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _part(path):
    relative = path.relative_to(ROOT).with_suffix("").parts
    return relative[1] if relative[0] == "tfseg" else relative[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    part = _part(path)
    for name in _imports(path):
        words = name.split(".")
        if part in ("__init__", "configs") or words[0] != "tfseg":
            continue
        target = words[1]
        assert _layer(target) <= _layer(part), name
        if _layer(target) == _layer(part) == 2:
            assert target == part, f"{part} imports {target}"
        if part == target == "methods":
            shared = words[2] in ("base", "families")
            assert shared, "methods know nothing of each other"
        if part == "methods":
            assert target not in ("datasets", "data", "networks")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_third_parties_stay_where_they_belong(path):
    part = _part(path)
    roots = {name.split(".")[0] for name in _imports(path)}
    if part not in ("data", "datasets", "networks"):
        assert not roots & {"keras_cv", "tensorflow_addons"}
    if part not in ("launch",):
        names = _imports(path)
        assert "absl.flags" not in names and "absl.app" not in names
    if part in LAYERS[0] | {"configs"}:
        assert "tensorflow" not in roots
    if part == "configs":
        used = {n for n in _imports(path) if n.startswith("tfseg")}
        assert used <= {"tfseg.config"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    assert source.startswith("# SPDX-License-Identifier: Apache-2.0")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.body[0].lineno + 1
            limit = 140 if node.name == "base_config" else 70
            assert length <= limit, f"{node.name} has {length} lines"
