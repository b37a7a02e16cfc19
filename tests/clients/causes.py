"""A cause of degradation from its begin to its end: in the status document, in the metric and in the log.

Each cause is compared with `docs/causes.md`. `tests/tidy/cause_tests.rs` checks that every code there has a test.
"""

import errno
import json
import pathlib
import re
import socket
import time
from urllib.parse import urlsplit

PATIENCE_SECONDS = 40
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/causes.md"
#: Local ports for requests, outside of the ranges that tests leave to the gateway.
LOCAL_PORTS = iter(range(24_000, 32_000))


def connect(address):
    """A connection from a port that the gateway cannot need."""
    for port in LOCAL_PORTS:
        try:
            return socket.create_connection(address, 20, ("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("all local ports were used")


def admin(gateway, path):
    """The body of an answer of the admin listener."""
    to = urlsplit(gateway.admin)
    with connect((to.hostname, to.port)) as stream:
        request = f"GET {path} HTTP/1.1\r\nhost: {to.netloc}\r\nconnection: close\r\n\r\n"
        stream.sendall(request.encode())
        received = b""
        while piece := stream.recv(1 << 16):
            received += piece
    head, body = received.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return body.decode()


def status(gateway):
    return json.loads(admin(gateway, "/status"))


def documented(code):
    """Severity and scope of a code."""
    section = PAGE.read_text().split(f"\n### `{code}`\n", 1)[1].split("\n### ", 1)[0]
    fields = dict(re.findall(r"^- (Severity|Scope): `(\w+)`$", section, re.MULTILINE))
    return fields["Severity"], fields["Scope"]


def gauge(gateway, code, scope):
    name = f'tidegate_degradation_causes{{code="{code}",scope="{scope}"}} '
    values = [line[len(name):] for line in admin(gateway, "/metrics").splitlines() if line.startswith(name)]
    assert len(values) == 1, f"no metric {name}"
    return float(values[0])


def lines(gateway, message, code):
    return [line for line in gateway.lines() if line["msg"] == message and line.get("code") == code]


def eventually(what, find, doing=lambda: None):
    """Waits until `find` returns a value, and calls `doing` before each look."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        doing()
        found = find()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.02)


def present(gateway, code, name=None):
    """The causes with this code, and with this name in their scope."""
    found = [cause for cause in status(gateway)["causes"] if cause["code"] == code]
    return [cause for cause in found if name in (None, cause["scope"]["name"])]


def has_begun(gateway, code, *, name=None, doing=lambda: None, is_logged=True):
    """Waits for a cause; checks it against its documentation, its gauge and the log line of its begin. A line cannot be written
    while the log itself is the cause."""
    cause = eventually(f"the cause {code}", lambda: present(gateway, code, name), doing)[0]
    assert (cause["severity"], cause["scope"]["kind"]) == documented(code), cause
    assert len(cause["message"].split()) > 3 and cause["effect"]["text"] and cause["ends_when"], cause
    assert cause["docs"] == f"docs/causes.md#{code}", cause
    for figure in (cause["measured"], cause["threshold"]):
        assert figure is None or (figure["unit"] and figure["value"] >= 0), cause
    assert gauge(gateway, code, cause["scope"]["bucket"] or "process") >= 1, cause
    if is_logged:
        begun = lambda: lines(gateway, "degradation began", code)
        of_name = lambda: [line for line in begun() if line.get("name") == cause["scope"]["name"]]
        assert eventually("its begin is logged", of_name)[0]["severity"] == cause["severity"]
    return cause


def has_ended(gateway, code, *, doing=lambda: None, scope="process", is_logged=True):
    """Waits for the end of a cause; returns its last event."""
    eventually(f"the end of {code}", lambda: not present(gateway, code), doing)
    assert gauge(gateway, code, scope) == 0
    events = [event for event in status(gateway)["events"] if event["cause"]["code"] == code]
    assert [events[0]["change"], events[-1]["change"]] == ["began", "ended"], events
    if is_logged:
        begun = len(lines(gateway, "degradation began", code))
        eventually("each end is logged", lambda: len(lines(gateway, "degradation ended", code)) == begun > 0)
    return events[-1]
