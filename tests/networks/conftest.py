# SPDX-License-Identifier: Apache-2.0
import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _free_networks(request):
    """Drops the networks that the tests of a file share, when it is done."""
    yield
    for value in vars(request.module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
    gc.collect()
