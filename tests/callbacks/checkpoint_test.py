# SPDX-License-Identifier: Apache-2.0
import math
import os
import signal

import pytest
from tensorflow import keras

from tests.methods import contract_test as contract
from tfseg.callbacks import checkpoint


def _store(folder, norm=False):
    method = contract.make("supervised", norm=norm)
    history = checkpoint.History()
    return method, history, checkpoint.Store(str(folder), method, history)


def test_last_two_and_one_best_are_kept(tmp_path):
    method, history, store = _store(tmp_path)
    for step in (1, 2, 3):
        method.step.assign(step)
        store.save("last")
        store.save("best")
    last = {name for name in os.listdir(tmp_path / "last") if "index" in name}
    best = {name for name in os.listdir(tmp_path / "best") if "index" in name}
    assert last == {"ckpt-2.index", "ckpt-3.index"}
    assert best == {"ckpt-3.index"}


def test_restore_brings_back_history_and_step(tmp_path):
    method, history, store = _store(tmp_path)
    assert not store.restore()
    method.step.assign(5)
    history.best_miou.assign(0.5)
    store.save("last")
    other, other_history, other_store = _store(tmp_path)
    assert other_store.restore()
    assert other.step.numpy() == 5
    assert other_history.best_miou.numpy() == 0.5


def test_damaged_checkpoint_is_named_and_can_be_removed(tmp_path):
    method, _, store = _store(tmp_path)
    for step in (4, 5):
        method.step.assign(step)
        store.save("last")
    data = tmp_path / "last" / "ckpt-5.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(ValueError, match="ckpt-5 cannot be restored"):
        _store(tmp_path)[2].restore()
    for path in (tmp_path / "last").glob("ckpt-5.*"):
        path.unlink()
    other, _, other_store = _store(tmp_path)
    assert other_store.restore()
    assert other.step.numpy() == 4


class _Terminate(keras.callbacks.Callback):
    """Sends this process a SIGTERM in the middle of step 2."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.step.numpy() == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_the_step_and_saves(tmp_path):
    method, history, store = _store(tmp_path)
    save = checkpoint.SaveLast(
        store, history, every=100, total=9, agree=lambda asked, step: asked
    )
    before = signal.getsignal(signal.SIGTERM)
    contract.fit(method, 9, [_Terminate(), save])
    save.close()
    assert save.stopped
    assert method.step.numpy() == 3
    assert os.path.exists(tmp_path / "last" / "ckpt-3.index")
    assert signal.getsignal(signal.SIGTERM) == before
    assert history.seconds.numpy() > 0


class _Poison(keras.callbacks.Callback):
    """What an overflow in float16 leaves in BatchNorm: the update of the
    weights is skipped, the moving statistics have moved."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.step.numpy() == 2:
            for variable in self.model.student.non_trainable_variables:
                variable.assign(variable * math.nan)


def test_statistics_that_are_not_finite_are_not_saved(tmp_path):
    method, history, store = _store(tmp_path, norm=True)
    save = checkpoint.SaveLast(
        store, history, every=1, total=2, agree=lambda asked, step: asked
    )
    with pytest.raises(FloatingPointError, match="moving_.* at step 1"):
        contract.fit(method, 2, [_Poison(), save])
    save.close()
    last = sorted(path.name for path in (tmp_path / "last").glob("*.index"))
    assert last == ["ckpt-1.index"]
