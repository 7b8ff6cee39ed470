"""Fixtures of the end-to-end tests; what they are made of is in harness.py.

HOURZ_TEST_URL runs what needs only a URL against a server that is running already.
"""

import os

import pytest

import harness


@pytest.fixture(scope="module")
def server():
    """A server on a fresh database of its own, without rate limits, for the tests of one file."""
    with harness.server() as running:
        yield running


@pytest.fixture(scope="module")
def base(request):
    return os.environ.get("HOURZ_TEST_URL") or request.getfixturevalue("server").base


@pytest.fixture
def anyone(base):
    """A client that is not logged in."""
    with harness.Client(base) as client:
        yield client


@pytest.fixture(scope="module")
def seeker(base):
    with harness.Person(base, "Mali") as person:
        yield person


@pytest.fixture(scope="module")
def helper(base):
    with harness.Person(base, "Somchai") as person:
        yield person


@pytest.fixture(scope="module")
def stranger(base):
    with harness.Person(base, "Stranger") as person:
        yield person
