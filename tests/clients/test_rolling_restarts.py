"""Two gateways behind a real proxy are restarted one after the other, as in a rolling update."""

import threading
import time

import proxies
import pytest
import servers
import urllib3

pytestmark = pytest.mark.gateway

CLIENTS = 6


class Load:
    """Clients that read one object continuously, without retries."""

    def __init__(self, url):
        self.url = url
        self.answers = 0
        self.failures = []
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _read(self):
        with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(20)) as pool:
            while not self._ends.is_set():
                try:
                    answer = pool.request("GET", self.url)
                    outcome = None if (answer.status, answer.data) == (200, b"there") else f"{answer.status} {answer.data[:200]}"
                except urllib3.exceptions.HTTPError as error:
                    outcome = repr(error)
                with self._lock:
                    self.answers += 1
                    if outcome:
                        self.failures.append(outcome)
                time.sleep(0.005)


def start(directory, port, delay):
    return servers.Gateway(directory, TIDEGATE_SERVER__PORT=str(port), TIDEGATE_SERVER__DRAIN_DELAY=delay)


def put(gateway):
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("PUT", gateway.endpoint + "/demo/key", body=b"there").status == 200


@pytest.mark.parametrize(
    ("proxy", "delay"),
    [
        (proxies.HaproxyAsUsual, "5"),
        (proxies.HaproxyBeforePair, "1"),
        (proxies.NginxBeforePair, "1"),
        (proxies.NginxBeforePair, "0"),
    ],
)
def test_a_rolling_restart_loses_no_request(tmp_path, proxy, delay):
    """G4, O5: `/readyz` turns 503 first, requests during the delay are answered, later connections are refused at once.
    HAProxy with the usual `inter 1s fall 2` needs 3 s of the delay of 5 s."""
    places = []
    for name in ["first", "second"]:
        directory = tmp_path / name
        directory.mkdir()
        places.append((directory, servers.free_port()))
    gateways = [start(directory, port, delay) for directory, port in places]
    for gateway in gateways:
        put(gateway)
    front = proxy(tmp_path, *(gateway.endpoint for gateway in gateways))
    try:
        with Load(front.endpoint + "/demo/key") as load:
            time.sleep(front.back_seconds)
            for index, (directory, port) in enumerate(places):
                before = load.answers
                assert gateways[index].stop() == 0
                gateways[index] = start(directory, port, delay)
                time.sleep(front.back_seconds)
                assert load.answers > before + 50, "the clients were served meanwhile"
        assert load.failures == []
    finally:
        front.stop()
        codes = [gateway.stop() for gateway in gateways]
    assert codes == [0, 0]
