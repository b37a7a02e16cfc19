"""An upstream on Node.js, which closes connections that are idle for 5 s, its default."""

import concurrent.futures
import json
import subprocess
import time

import pytest
import servers
import urllib3
from causes import admin
from configuration import section

pytestmark = pytest.mark.gateway

SERVER = """
const server = require("node:http").createServer((request, response) => {
  // With a `Connection` of the application Node sends no `Keep-Alive: timeout=5`.
  if (process.argv[1] === "silent") response.setHeader("connection", "keep-alive");
  request.on("data", () => {}).on("end", () => response.end(request.method === "HEAD" ? "" : "ok"));
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify(server.address())));
"""
CLIENTS = 24
#: Around the 5 s of Node, and around the second that newer versions add to them.
PAUSES = [4.9 + 0.01 * step for step in range(CLIENTS)], [5.0 + 0.05 * step for step in range(CLIENTS)]


class Node(servers.Process):
    def __init__(self, directory, mode):
        super().__init__(["node", "-e", SERVER, mode], directory, lambda line: "port" in line)
        self.endpoint = f"http://127.0.0.1:{self.ready['port']}"


@pytest.mark.parametrize("mode", ["announced", "silent"])
def test_no_request_fails_as_node_closes_idle_connections(start_gateway, tmp_path, mode):
    """P9: requests after pauses of about 5 s, whether Node announces its idle time or not; none fails or counts."""
    node = Node(tmp_path, mode)
    upstream = "retry.max_attempts = 1\nconnection_pool.max_idle = 32\nconnection_pool.idle_timeout = 60"
    try:
        gateway = start_gateway(f"node-{mode}", section("b", node, auth=("anonymous",), upstream=upstream))

        def requests(client):
            methods = ["GET", "PUT", "HEAD", "DELETE"]
            with urllib3.PoolManager(retries=False) as pool:
                for round_, pause in enumerate([0, PAUSES[0][client], PAUSES[1][client]]):
                    time.sleep(pause)
                    method = methods[(client + round_) % 4]
                    body = b"body" if method == "PUT" else None
                    answer = pool.request(method, f"{gateway.endpoint}/b/k", body=body)
                    assert answer.status == 200, (method, pause, answer.headers, answer.data)
                    assert "keep-alive" not in answer.headers

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(requests, client) for client in range(CLIENTS)]:
                done.result()
        status = json.loads(admin(gateway, "/status"))
        for kind in ("read", "write"):
            assert status["buckets"]["b"]["breaker"][kind]["consecutive_failures"] == 0
    finally:
        node.stop()
