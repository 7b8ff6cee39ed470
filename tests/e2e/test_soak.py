"""The short form of `./dev soak`: every fault once, under load, and nothing lost or doubled; and what its judges say of runs
that went wrong."""

import collections
import types

import pytest

import harness
from faults import Faults
from loads import Weather
from soak import SHORT, Soak, plan, soak


@pytest.mark.skipif(harness.sanitized(), reason="a sanitizer's runtime must come first of what is preloaded")
def test_every_fault_under_load():
    finished = soak(SHORT, int(harness.SEED))
    print(finished.table())
    assert not finished.failures, finished.failures


def test_a_missed_target_fails_the_long_run_alone():
    for wanted, failures in ((plan(30), 1), (SHORT, 0)):
        judge = Soak(wanted, 1)
        judge.row("a time", "6 s", "< 5 s", False)
        judge.row("another", "4 s", "< 5 s")
        assert len(judge.failures) == failures and "MISSED" in judge.table()
        assert ("FAILED" in judge.markdown("./dev soak")) == bool(failures)


@pytest.mark.parametrize("who, status, wrong", [
    ("journal", 500, True), ("racers", 500, True), ("racers", 404, True), ("readers", 504, True), ("uploaders", 502, True),
    ("uploaders", 507, False), ("journal", 503, False), ("racers", 409, False), ("readers", 507, True)])
def test_answers_that_no_fault_excuses(who, status, wrong):
    told = {part: collections.Counter({200: 5}) for part in ("journal", "racers", "readers", "uploaders")}
    told[who][status] += 1
    parts = {part: types.SimpleNamespace(statuses=statuses, reads={}) for part, statuses in told.items()}
    parts["journal"].statuses = lambda: told["journal"]
    judge = Soak(SHORT, 1)
    judge.judge_answers(**parts)
    assert bool(judge.failures) == wrong, judge.failures


def test_one_late_start_fails_the_run_and_so_does_one_too_few():
    for took, failures in (([1.5] * 25, 0), ([1.5] * 24 + [2.5], 1), ([1.5] * 24, 1), ([], 1)):
        judge = Soak(plan(30), 1)
        judge.plan.faults = {"kill": 25}
        judge.judge_times(types.SimpleNamespace(took={"kill": took}), types.SimpleNamespace(times=collections.defaultdict(list)))
        assert len(judge.failures) == failures, judge.failures


def test_the_targets_come_once_however_long_it_is():
    assert plan(5).faults == plan(30).faults and plan(30).faults["kill"] == 25
    assert (plan(30).races, plan(30).cuts) == (1000, 500)


def test_a_fault_that_was_too_much_fails_the_run_that_goes_on():
    server = types.SimpleNamespace(process=types.SimpleNamespace(poll=lambda: None), last_words=lambda: "")
    faults = Faults(server, None, None, None, Weather(), 1)
    faults.ready = lambda: None
    faults.kill = lambda: 0.0

    def stop():
        raise AssertionError("too much")

    faults.stop = stop
    faults.all_of({"kill": 1, "stop": 1})
    assert len(faults.broken) == 1 and len(faults.took["kill"]) == 1 and not faults.took["stop"]
