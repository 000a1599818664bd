# SPDX-License-Identifier: Apache-2.0
import gc

import pytest

from tests.networks import leaves


@pytest.fixture(scope="module", autouse=True)
def _free_networks(request):
    """Drops the networks that the tests of a file share, when it is done."""
    yield
    for value in [*vars(request.module).values(), leaves.shared]:
        if hasattr(value, "cache_clear"):
            value.cache_clear()
    gc.collect()


@pytest.fixture(params=leaves.LEAVES, scope="module")
def leaf(request):
    """Name of a network; all tests of a file of one run together."""
    return request.param
