# SPDX-License-Identifier: Apache-2.0
import fractions
import os
import pickle

import numpy as np
import pytest

from tfseg import index_pickle

ORDER = [3, 1, 4, 0, 2]


def _read(tmp_path, data, size=5):
    path = tmp_path / "split_0.pkl"
    path.write_bytes(data)
    return index_pickle.read(str(path), size)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "kind",
    ["int64", "int32", "uint8", ">i8", "<u2", ">u4", list, tuple, "scalars"],
)
def test_every_way_to_write_indices(tmp_path, protocol, kind):
    if kind == "scalars":
        value = [np.int32(i) for i in ORDER]
    elif isinstance(kind, str):
        value = np.array(ORDER, kind)
    else:
        value = kind(ORDER)
    indices = _read(tmp_path, pickle.dumps(value, protocol))
    assert indices == tuple(ORDER)
    assert {type(i) for i in indices} == {int}


def test_a_real_split_has_many_bytes_of_every_value(tmp_path):
    order = np.random.RandomState(0).permutation(10_582)
    for protocol in (0, 2, 4, 5):
        indices = _read(tmp_path, pickle.dumps(order, protocol), 10_582)
        assert indices == tuple(order)


# What Python 2.7 with NumPy 1.16 writes for numpy.array([1, 0, 200, ...]) and
# for lists; the bytes of the array are text with escapes, or raw.
_PYTHON_2_ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\n"
    b"tp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I3\ntp6\ncnumpy\ndtype\np7\n(S'i2'\np8\n"
    b"I0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
    b"S'%s'\np13\ntp14\nb."
)


def test_pickles_of_python_2(tmp_path):
    data = _PYTHON_2_ARRAY % rb"\x02\x00\x00\x00\x01\x00"
    assert _read(tmp_path, data, 3) == (2, 0, 1)
    # Bytes above 127 are not ASCII: 200 is \xc8.
    order = [200, *range(200)]
    text = "".join(f"\\x{i:02x}\\x00" for i in order).encode()
    data = (_PYTHON_2_ARRAY % text).replace(b"(I3\ntp6", b"(I201\ntp6")
    assert _read(tmp_path, data, 201) == tuple(order)
    data = b"(lp0\nI1\naL0L\naI2\na."
    assert _read(tmp_path, data, 3) == (1, 0, 2)


def test_numpy_2_has_other_names(tmp_path):
    data = pickle.dumps(np.array(ORDER), 2)
    assert data.count(b"numpy.core.") == 1
    data = data.replace(b"numpy.core.", b"numpy._core.")
    assert _read(tmp_path, data) == tuple(ORDER)


class _Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "make, name",
    [
        (lambda path: _Evil(os.system, f"touch {path}"), "posix.system"),
        (lambda path: _Evil(os.mkdir, str(path)), "posix.mkdir"),
        (lambda path: _Evil(eval, f"open({str(path)!r}, 'w')"), "eval"),
        (lambda path: [3, _Evil(exec, f"open({str(path)!r}, 'w')")], "exec"),
        (lambda path: _Evil(getattr, os.stat, "x"), "getattr|posix.stat"),
        (lambda path: _Evil(np.save, str(path), [1]), "numpy.save"),
        (lambda path: fractions.Fraction(1), "fractions.Fraction"),
    ],
)
def test_a_pickle_that_runs_something_is_refused(
    tmp_path, make, name, protocol
):
    trap = tmp_path / "trap"
    data = pickle.dumps(make(trap), protocol)
    message = f"split_0.pkl: the pickle wants to use '.*{name}'; refused"
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, data)
    assert "nothing was run. Fix: " in str(error.value)
    assert not trap.exists()
    # It is a trap: pickle itself would have run it.
    if name in ("posix.system", "posix.mkdir"):
        pickle.loads(data)
        assert trap.exists()


def test_allowed_names_are_not_called(tmp_path):
    """Not even numpy.dtype, which evaluates what it is given."""
    data = b"cnumpy\ndtype\n(S'i8, __import__'\ntR."
    with pytest.raises(ValueError, match="is not a pickle of integers"):
        _read(tmp_path, data)
    # A state for the name itself changes nothing for the next file.
    with pytest.raises(ValueError, match="is not a pickle of integers"):
        _read(tmp_path, b"cnumpy\nndarray\n(I1\ntb.")
    data = pickle.dumps(np.array(ORDER), 2)
    assert _read(tmp_path, data) == tuple(ORDER)


@pytest.mark.parametrize(
    "value",
    [
        {"train": ORDER},
        "3 1 4 0 2",
        7,
        None,
        [3, 1, 4, 0, "2"],
        [3, 1, 4, 0, 2.0],
        [3, 1, 4, False, 2],
        [ORDER],
        np.array(ORDER, np.float32),
        np.array([ORDER]),
        np.array(ORDER, object),
        np.array(3),
        np.array(["3", "1"]),
        [np.float64(3)],
    ],
)
def test_other_contents_are_refused(tmp_path, value):
    message = "split_0.pkl: is not a pickle of integers in one list.*Fix: "
    for protocol in (0, 2, 5):
        with pytest.raises(ValueError, match=message):
            _read(tmp_path, pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"2007_000032\n2007_000039\n",
        pickle.dumps(ORDER)[:-5],
        pickle.dumps(np.array(ORDER), 2)[:-30] + b".",
        # Bytes of which there are fewer.
        b"\x80\x03B\xff\xff\xff\xff.",
    ],
)
def test_damaged_pickles_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="split_0.pkl: is not a pickle of"):
        _read(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"(lp4294967295\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f].",
    ],
)
def test_a_number_in_the_file_takes_no_memory(tmp_path, data):
    """The unpickler in C makes room for as many objects as it says."""
    with pytest.raises(ValueError, match="split_0.pkl: has 0 indices"):
        _read(tmp_path, data)


@pytest.mark.parametrize(
    "indices, message",
    [
        ([0, 1, 2, 3], "has 4 indices, but the train list has 5 images"),
        ([0, 1, 2, 3, 4, 5], "has 6 indices, .* 5 images.*train_file"),
        ([], "has 0 indices"),
        ([0, 1, 2, 3, 5], r"the index 5 at place 4 is not in 0\.\.4"),
        ([0, -1, 2, 3, 4], r"the index -1 at place 1 is not in 0\.\.4"),
        ([0, 4, 2, 3, 4], "the index 4 is there twice, at the places 1 and 4"),
    ],
)
def test_what_is_no_permutation_is_refused(tmp_path, indices, message):
    with pytest.raises(ValueError, match=f"split_0.pkl: {message}") as error:
        _read(tmp_path, pickle.dumps(np.array(indices, np.int64)))
    assert "Fix: " in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="none.pkl: no such file.*Fix: "):
        index_pickle.read(str(tmp_path / "none.pkl"), 5)
