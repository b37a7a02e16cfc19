"""A log file on a disk that fills up and is freed again. The disk is a tmpfs in a private mount namespace."""

import contextlib
import json
import subprocess

import pytest

from causes import has_begun, has_ended
from conftest import Client, Gateway, bucket, eventually

DISK_BYTES = 256 << 10


class FileGateway(Gateway):
    """A gateway that logs into a file."""

    def __init__(self, directory, log, *sections, **variables):
        self.log = log
        super().__init__(directory, "".join(sections), TIDEGATE_LOG__OUTPUT=str(log), **variables)

    def lines(self):
        if self.log.exists():
            for line in self.log.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def disk(self):
        return self.status()["resources"]["log_disk"]

    def logged(self):
        return sum(1 for line in self.lines() if line["msg"] == "request")

    def lost(self):
        return self.metric('log_lines_lost_total{cause="disk_full"}')


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def fill(disk):
    """Fills the disk; returns the file that occupies it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def requests(gateway, count):
    client = Client(gateway)
    for _ in range(count):
        client.send("GET", "/b/k")
        assert client.answer().status == 200
    client.close()


def test_a_full_disk_is_counted_and_reported(tmp_path, disk, upstream):
    """X12, X10: write errors are a degradation cause, a metric and one line on stderr; each log line is complete, or
    counted as lost and reported."""
    # The monitor samples once: lines about its level would be lost too, and only requests are counted here.
    variables = {"TIDEGATE_MONITOR__INTERVAL_MS": "60000"}
    gateway = FileGateway(tmp_path, disk / "log", bucket("b", upstream.port), **variables)
    try:
        requests(gateway, 3)
        eventually("the requests are logged", lambda: gateway.logged() == 3)
        for round in (1, 2):
            filler = fill(disk)
            before = gateway.lost()
            requests(gateway, 40)
            eventually("the lines are counted as lost", lambda: gateway.lost() > before)
            cause = has_begun(gateway, "log", is_logged=False)
            assert cause["scope"]["name"] == "disk_full" and "No space left" in cause["message"], cause
            assert gateway.status()["status"] == "degraded"
            filler.unlink()
            requests(gateway, 5)
            has_ended(gateway, "log", is_logged=False)
            eventually("the loss is logged", lambda: len(notices(gateway)) >= round)
        assert gateway.status()["status"] == "ok"
        eventually("every request is logged or lost", lambda: gateway.logged() + gateway.lost() >= 3 + 2 * 45)
        # The lines about the begin and the end of the cause may be lost too, in each round.
        assert 0 <= gateway.logged() + gateway.lost() - (3 + 2 * 45) <= 2 * 2
        assert sum(notice["lines_lost"] for notice in notices(gateway)) == gateway.lost()
        assert all(notice["cause"] == "disk_full" for notice in notices(gateway))
        assert gateway.metric('log_write_failures_total{cause="disk_full"}') >= 2
        reports = gateway.err.read_text().count("the log cannot be written (disk_full)")
        assert reports == 1, f"one line for both errors within a minute: {gateway.err.read_text()}"
    finally:
        assert gateway.stop() == 0


def test_a_filling_disk_warns_before_lines_are_lost(tmp_path, disk, upstream):
    """X1, X2, X12: the space where the log is written is a resource; at 80 % the level is warning, and it falls by itself."""
    gateway = FileGateway(tmp_path, disk / "log", bucket("b", upstream.port))
    try:
        eventually("the disk is measured", lambda: "used" in gateway.disk())
        assert gateway.disk()["limit"] == DISK_BYTES and gateway.status()["level"] == "normal"
        filler = disk / "filler"
        filler.write_bytes(bytes(DISK_BYTES * 17 // 20))
        eventually("the level rises", lambda: gateway.status()["level"] == "warning")
        status = gateway.status()
        assert status["reason"].startswith("log_disk at 8"), status["reason"]
        requests(gateway, 3)
        assert gateway.lost() == 0, "there is still space"
        filler.unlink()
        eventually("the level falls", lambda: gateway.status()["level"] == "normal")
        assert gateway.status()["reason"].startswith("log_disk at "), gateway.status()["reason"]
        assert gateway.disk()["pressure"] < 0.8
    finally:
        assert gateway.stop() == 0


def notices(gateway):
    return [line for line in gateway.lines() if line["msg"] == "log output works again"]
