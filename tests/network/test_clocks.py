"""A wall clock that leaps, and a process that is stopped for seconds: nothing is refused by mistake, and no limit is forgotten.

`libfaketime` gives the gateway its wall clock, from a file that the test changes.
"""

import datetime
import glob
import os
import signal
import time

import pytest

from conftest import ask, bucket, eventually

LIMITED = "[buckets.limited.rate_limit]\nrequests_per_second = 0.001\nburst = 2\n"
DAYS = 400


@pytest.fixture
def clock(tmp_path):
    """The variables that give the gateway its clock, and a function that moves it."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert libraries, "libfaketime is not installed (Debian package faketime)"
    file = tmp_path / "offset"

    def move(offset):
        # The file is replaced at once: the gateway never reads half of it.
        new = tmp_path / "offset.new"
        new.write_text(offset)
        new.rename(file)

    move("+0")
    variables = {
        "LD_PRELOAD": libraries[0],
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return variables, move


def lines_of_requests(gateway):
    return [line for line in gateway.lines() if line["msg"] == "request"]


def logged_day(gateway):
    """The day of the access line of a new request."""
    before = len(lines_of_requests(gateway))
    assert ask(gateway, "/b/k").status == 200
    eventually("the request is logged", lambda: len(lines_of_requests(gateway)) > before)
    return datetime.datetime.fromisoformat(lines_of_requests(gateway)[-1]["ts"]).date()


def leaps(gateway, days):
    """Waits until the gateway's clock is this many days ahead."""
    expected = datetime.datetime.now(datetime.timezone.utc).date() + datetime.timedelta(days)
    eventually(f"the clock is {days} days ahead", lambda: abs(logged_day(gateway) - expected) <= datetime.timedelta(1))


def assert_calm(gateway):
    """Requests are served, and there is no cause of degradation."""
    for _ in range(20):
        assert ask(gateway, "/b/k").status == 200
    eventually("no cause is present", lambda: gateway.status()["causes"] == [])
    assert gateway.status()["level"] == "normal"
    assert gateway.metric("load_shed_total") == 0


def assert_limited(gateway):
    """The limit has no token."""
    answer = ask(gateway, "/limited/k")
    assert (answer.status, answer.reason) == (429, "rate_limit_bucket"), answer
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("days", [DAYS, -DAYS])
def test_the_wall_clock_leaps_and_returns(start, upstream, clock, days):
    """X4, X8, L1: a wall clock that leaps by more than a year refuses nothing, fills no limit, and changes no uptime; nor does its
    return."""
    variables, move = clock
    buckets = [bucket("b", upstream.port), bucket("limited", upstream.port), LIMITED]
    gateway = start(*buckets, **variables)
    assert [ask(gateway, "/limited/k").status for _ in range(2)] == [200, 200]
    assert_limited(gateway)
    for offset in (days, 0):
        move(f"{offset:+}d")
        leaps(gateway, offset)
        assert_calm(gateway)
        assert_limited(gateway)
        assert gateway.status()["uptime_ms"] < 600_000


def test_a_stopped_process_continues(start, upstream):
    """X4, X8: a process that was stopped for seconds serves all requests that waited, and refuses none of the next ones."""
    gateway = start(bucket("b", upstream.port))
    assert_calm(gateway)
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        time.sleep(3)
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)
    assert_calm(gateway)
