"""The processes under test: the gateway, the embedded origin by itself, a Ceph Object Gateway, JuiceFS, proxies.

Each is started on ports of its own, with its output in files, and ended by its process id. Nothing of the caller's
environment that could change an outcome (keys, proxies, gateway settings) is passed on.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
START_SECONDS = 20
STOP_SECONDS = 35


class StartError(Exception):
    """A server did not come up; the text holds what it said."""


def clean_environment(**extra):
    hidden = ("AWS_", "TIDEGATE_", "BOTO", "RGW_", "MON_", "CEPH_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(hidden) and not name.lower().endswith("_proxy")
    }
    # Where awscrt is installed, which has tests of its own, botocore would sign with it instead of by itself.
    return kept | {"BOTO_DISABLE_CRT": "true"} | extra


def free_port():
    """Below 32768, where no outgoing connection can have taken it."""
    for port in random.SystemRandom().sample(range(12000, 32000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartError("no free port between 12000 and 32000")


class Process:
    """A program that tells on its standard output, as a line of JSON, when it is ready."""

    def __init__(self, command, directory, is_ready, environment=None):
        self.out = directory / "stdout.log"
        self.err = directory / "stderr.log"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env=environment or clean_environment(),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )
        try:
            self.ready = self._await(is_ready)
        except StartError:
            self.process.kill()
            self.process.communicate()
            raise

    def _await(self, is_ready):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for line in self.lines():
                if is_ready(line):
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise StartError(
            f"{self.process.args} is not ready (exit code {self.process.poll()})\n"
            f"stdout: {self.out.read_text()[-3000:]}\nstderr: {self.err.read_text()[-3000:]}"
        )

    def lines(self):
        """The JSON lines written so far."""
        for line in self.out.read_bytes().splitlines():
            if line.startswith(b"{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # still being written

    def stop(self):
        """Ends it as an operator would; the answer is its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode


class Gateway(Process):
    """The real binary. Without a configuration it serves bucket `demo` from its embedded origin."""

    def __init__(self, directory, configuration=None, launcher=(), **variables):
        """`launcher` is a command that starts the binary; `variables` are added to its environment."""
        binary = pathlib.Path(os.environ.get("TIDEGATE_BINARY", ROOT / "target/debug/tidegate"))
        if not binary.is_file():
            raise StartError(f"no gateway at {binary}: build it, or name it in TIDEGATE_BINARY")
        settings = {
            "TIDEGATE_SERVER__PORT": "0",
            "TIDEGATE_ADMIN__PORT": "0",
            "TIDEGATE_LOG__FORMAT": "json",
            "TIDEGATE_SERVER__BASE_DOMAINS": "localhost",
        }
        if configuration is not None:
            path = directory / "tidegate.toml"
            path.write_text(configuration)
            settings["TIDEGATE_CONFIG"] = str(path)
        super().__init__(
            [*launcher, binary.resolve()],
            directory,
            lambda line: line.get("msg") == "listening" and "address" in line and "admin" in line,
            clean_environment(**settings | variables),
        )
        self.endpoint = f"http://{self.ready['address']}"
        self.admin = f"http://{self.ready['admin']}"


class OriginAlone(Process):
    """The embedded origin without a gateway before it."""

    def __init__(self, directory, bucket):
        binary = pathlib.Path(os.environ.get("TIDEGATE_ORIGIN_BINARY", ROOT / "target/debug/examples/origin"))
        if not binary.is_file():
            raise StartError(f"no origin at {binary}: build it, or name it in TIDEGATE_ORIGIN_BINARY")
        super().__init__([binary.resolve(), directory / "data", bucket], directory, lambda line: "address" in line)
        self.endpoint = f"http://{self.ready['address']}"
        self.access_key_id = self.ready["access_key_id"]
        self.secret_access_key = self.ready["secret_access_key"]


class Rgw:
    """A one-node Ceph Object Gateway that verifies signatures and knows conditional requests."""

    access_key_id = "CLIENTSUITEKEY"
    secret_access_key = "client-suite-secret"

    def __init__(self, directory):
        self.directory = directory
        running = os.environ.get("TIDEGATE_TEST_RGW")
        self.is_ours = running is None
        if running:
            self.endpoint = running
            return
        port, monitor_port = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self._run(
            "start",
            RGW_PORT=str(port),
            MON_PORT=str(monitor_port),
            RGW_ACCESS_KEY_ID=self.access_key_id,
            RGW_SECRET_ACCESS_KEY=self.secret_access_key,
        )

    def _run(self, action, **settings):
        done = subprocess.run(
            [HERE / "rgw.sh", action, self.directory],
            env=clean_environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise StartError(done.stdout)

    def make_user(self, tenant):
        """Makes a user of this tenant; the answer is its key pair."""
        key_id, secret = f"KEYOF{tenant.upper()}", f"secret-of-{tenant}"
        self._run("user", RGW_TENANT=tenant, RGW_ACCESS_KEY_ID=key_id, RGW_SECRET_ACCESS_KEY=secret)
        return key_id, secret

    def stop(self):
        if self.is_ours:
            self._run("stop")


class Juicefs:
    """JuiceFS's gateway on a local directory: the S3 server of MinIO's time as a gateway."""

    access_key_id = "SECONDSTOREKEY"
    secret_access_key = "second-store-secret"

    def __init__(self, directory):
        program = pathlib.Path(sys.executable).parent / "juicefs"
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        meta = f"badger://{directory}/meta"
        environment = clean_environment(
            MINIO_ROOT_USER=self.access_key_id,
            MINIO_ROOT_PASSWORD=self.secret_access_key,
            HOME=str(directory),
        )
        options = ["--storage", "file", "--bucket", f"{directory}/data/", "--trash-days", "0", "--no-update"]
        subprocess.run([program, "format", *options, meta, "store"], env=environment, check=True, capture_output=True)
        options = ["--no-usage-report", "--no-banner", "--multi-buckets", "--keep-etag", "--object-tag", "--object-meta"]
        options += ["--hide-dir-object", "--cache-dir", f"{directory}/cache"]
        self.output = directory / "output.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [program, "gateway", *options, meta, f"127.0.0.1:{port}"],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        await_port(self.process, port, self.output)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=STOP_SECONDS)


def await_port(process, port, output):
    """Returns once something listens there; ends the process if that takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise StartError(f"{process.args} is not ready: {output.read_text()[-3000:]}")


class FrontProxy:
    """A proxy that clients meet before the gateway, configured by a template of its own."""

    template = ""
    #: A client address that only this proxy's tests use.
    greedy = ""
    #: What else the template is filled with.
    values = {}

    def __init__(self, directory, gateway):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.directory = directory
        path = directory / "proxy.conf"
        values = {"DIRECTORY": directory, "PORT": port, "GATEWAY": gateway.removeprefix("http://"), **self.values}
        text = self.template
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path.write_text(text)
        self.output = directory / "output.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(path),
                env=clean_environment(PATH=f"{os.environ['PATH']}:/usr/sbin"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        await_port(self.process, port, self.output)

    def command(self, path):
        raise NotImplementedError

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=STOP_SECONDS)


class Nginx(FrontProxy):
    greedy = "127.0.1.1"
    template = """
daemon off;
worker_processes 1;
pid @DIRECTORY@/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path @DIRECTORY@/body;
  proxy_temp_path @DIRECTORY@/proxy;
  fastcgi_temp_path @DIRECTORY@/fastcgi;
  uwsgi_temp_path @DIRECTORY@/uwsgi;
  scgi_temp_path @DIRECTORY@/scgi;
  server {
    listen 127.0.0.1:@PORT@;
    location / {
      proxy_pass http://@GATEWAY@;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
    merge_slashes off;
  }
}
"""

    def command(self, path):
        return ["nginx", "-p", self.directory, "-c", path]


class Haproxy(FrontProxy):
    greedy = "127.0.2.1"
    template = """
global
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend clients
  bind 127.0.0.1:@PORT@
  @FORWARD@
  default_backend gateway
backend gateway
  server gateway @GATEWAY@ @SEND@
"""
    #: How the client is named: in a header here.
    values = {"FORWARD": "option forwardfor", "SEND": ""}

    def command(self, path):
        return ["haproxy", "-db", "-f", path]


#: What CDNs, API gateways and balancers add to a request; none of it is signed.
CDN_HEADERS = {
    "X-Amz-Cf-Id": "5Zx-q_Y9vB3==",
    "X-Amz-Apigw-Id": "dGVzdA-QoEF=",
    "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
    "Via": "2.0 0123456789abcdef.cloudfront.net (CloudFront)",
    "Forwarded": "for=203.0.113.9;proto=https",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cdn.example",
    "X-Forwarded-Port": "443",
    "X-Real-Ip": "203.0.113.9",
    "CloudFront-Viewer-Country": "DE",
    "CF-Connecting-IP": "203.0.113.9",
    "CF-Ray": "0123456789abcdef-FRA",
    "CDN-Loop": "cloudflare",
}


class NginxCdn(Nginx):
    """Leaves Host as the client signed it, and adds the headers of a CDN."""

    template = Nginx.template.replace(
        "      proxy_set_header Host $host;\n      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n",
        "      proxy_set_header Host $http_host;\n      proxy_request_buffering off;\n      proxy_buffering off;\n      client_max_body_size 0;\n"
        + "".join(f"      proxy_set_header {name} '{value}';\n" for name, value in CDN_HEADERS.items()),
    )


class HaproxyCdn(Haproxy):
    """Adds the headers of a CDN."""

    values = {
        "FORWARD": "\n".join(f"  http-request set-header {name} '{value}'" for name, value in CDN_HEADERS.items()),
        "SEND": "",
    }


class HaproxyLine(Haproxy):
    """Names the client in the first line of each connection."""

    greedy = "127.0.3.1"
    values = {"FORWARD": "", "SEND": "send-proxy"}


class HaproxyBlock(Haproxy):
    """The same in the second version's bytes."""

    greedy = "127.0.4.1"
    values = {"FORWARD": "", "SEND": "send-proxy-v2"}


class Pair(FrontProxy):
    """A proxy before two gateways."""

    def __init__(self, directory, first, second):
        self.values = {"SECOND": second.removeprefix("http://")}
        super().__init__(directory, first)


class NginxBeforePair(Pair):
    """Checks nothing by itself: a gateway that refuses connections is left out for a second."""

    template = Nginx.template.replace(
        "  server {\n",
        """  upstream gateways {
    server @GATEWAY@ max_fails=1 fail_timeout=1s;
    server @SECOND@ max_fails=1 fail_timeout=1s;
    keepalive 8;
  }
  server {
""",
        1,
    ).replace("proxy_pass http://@GATEWAY@;", 'proxy_pass http://gateways;\n      proxy_set_header Connection "";')

    command = Nginx.command


class HaproxyBeforePair(Pair):
    """Asks `/-/readyz` ten times a second and sends no more requests after the first 503."""

    template = """
global
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option redispatch
frontend clients
  bind 127.0.0.1:@PORT@
  default_backend gateways
backend gateways
  option httpchk GET /-/readyz
  http-check expect status 200
  default-server check inter 100ms fall 1 rise 1
  server first @GATEWAY@
  server second @SECOND@
"""

    command = Haproxy.command
