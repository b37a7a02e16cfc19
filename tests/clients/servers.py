"""The processes under test: the gateway, the embedded origin by itself, a Ceph Object Gateway, JuiceFS.

Each is started on its own ports, with its output in files, and ended by its process id. Environment variables that
could change an outcome (keys, proxies, gateway settings) are removed.
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
#: In which the line of an answered request is in the log.
LOG_SECONDS = 10


class StartError(Exception):
    """A server did not start; the text has its output."""


def clean_environment(**extra):
    hidden = ("AWS_", "TIDEGATE_", "BOTO", "RGW_", "MON_", "CEPH_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(hidden) and not name.lower().endswith("_proxy")
    }
    # With awscrt installed, which has its own tests, botocore would sign with it.
    return kept | {"BOTO_DISABLE_CRT": "true"} | extra


def free_port():
    """A port below 32768 that is reserved until this process ends. A connection to it is refused while no server listens.

    A socket that is bound and never listens holds it: the kernel gives the port to nothing but a server with `SO_REUSEADDR`.
    """
    for port in random.SystemRandom().sample(range(12000, 32000), 100):
        reservation = socket.socket()
        try:
            reservation.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The descriptor stays open until the process ends.
        reservation.detach()
        return port
    raise StartError("no free port between 12000 and 32000")


class Process:
    """A program that writes a JSON line to its standard output when it is ready."""

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
        """Ends it with SIGTERM, and returns its exit code."""
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

    def access_lines_until(self, request_id):
        """The access lines up to the one of this request; the log thread may write it after the client has the answer.
        """
        deadline = time.monotonic() + LOG_SECONDS
        while time.monotonic() < deadline:
            lines = [line for line in self.lines() if line.get("msg") == "request"]
            for index, line in enumerate(lines):
                if line.get("id") == request_id:
                    return lines[: index + 1]
            time.sleep(0.02)
        raise AssertionError(f"no access line for {request_id} within {LOG_SECONDS} s")


class OriginAlone(Process):
    """The embedded origin without a gateway."""

    def __init__(self, directory, bucket):
        binary = pathlib.Path(os.environ.get("TIDEGATE_ORIGIN_BINARY", ROOT / "target/debug/examples/origin"))
        if not binary.is_file():
            raise StartError(f"no origin at {binary}: build it, or name it in TIDEGATE_ORIGIN_BINARY")
        super().__init__([binary.resolve(), directory / "data", bucket], directory, lambda line: "address" in line)
        self.endpoint = f"http://{self.ready['address']}"
        self.access_key_id = self.ready["access_key_id"]
        self.secret_access_key = self.ready["secret_access_key"]


class Rgw:
    """A one-node Ceph Object Gateway that verifies signatures and supports conditional requests."""

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
        """Creates a user of this tenant, and returns its key pair."""
        key_id, secret = f"KEYOF{tenant.upper()}", f"secret-of-{tenant}"
        self._run("user", RGW_TENANT=tenant, RGW_ACCESS_KEY_ID=key_id, RGW_SECRET_ACCESS_KEY=secret)
        return key_id, secret

    def stop(self):
        if self.is_ours:
            self._run("stop")


class Juicefs:
    """JuiceFS's gateway on a local directory: an S3 server from MinIO's former gateway mode."""

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
    """Returns once the port listens; ends the process at the timeout."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise StartError(f"{process.args} is not ready: {output.read_text()[-3000:]}")
