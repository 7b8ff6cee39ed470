"""The short form of `./dev soak`: every fault once, under load, and nothing lost or doubled."""

import pytest

import harness
from soak import SHORT, soak


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's runtime must come first of what is preloaded")
def test_every_fault_under_load():
    finished = soak(SHORT, int(harness.SEED))
    print(finished.table())
    assert not finished.failures, finished.failures
