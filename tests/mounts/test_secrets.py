"""Secret files with the modes and mounts of platforms, checked by the real binary on real mounts."""

import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import threading
import time

import pytest

from conftest import BINARY, PATIENCE_SECONDS, check, check_secret, write

SOUND = (0, "")


def refused(outcome, *words):
    code, errors = outcome
    return code == 78 and all(word in errors for word in words)


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o400, 0o640])
def test_open_secrets_are_accepted_on_a_closed_tmpfs(mounts, mode):
    """C5: a world-readable secret is accepted on a tmpfs that others cannot write, as Docker Swarm mounts /run/secrets.
    """
    assert check_secret(write(mounts.root / "secret", mode)) == SOUND


@pytest.mark.parametrize("mode", [0o446, 0o666, 0o602])
def test_a_writable_secret_is_refused_on_every_mount(mounts, mode):
    """C5: a secret that others can write is refused, also on a memory file system or a read-only mount."""
    secret = write(mounts.root / "secret", mode)
    assert refused(check_secret(secret), "can be written by other users")
    mounts.make_read_only(mounts.root)
    assert refused(check_secret(secret), "can be written by other users")


@pytest.mark.parametrize("point", ["/dev/shm", "/tmp", "/mnt/shared"])
def test_open_secrets_are_refused_on_a_writable_tmpfs(mounts, point):
    """C5: /tmp and /dev/shm are tmpfs mounts with a world-writable root."""
    shared = mounts.tmpfs(pathlib.Path(point), 0o1777)
    secret = write(shared / "secret", 0o444)
    assert refused(check_secret(secret), "can be read by other users (mode 0444)", "chmod 600")
    secret.chmod(0o400)
    assert check_secret(secret) == SOUND


def kubernetes_volume(directory, mode):
    """A volume as the kubelet writes it: files in a dated directory, and links to them."""
    dated = directory / "..2026_11_29_16_00_00.123"
    dated.mkdir()
    write(dated / "secret", mode)
    (directory / "..data").symlink_to(dated.name)
    (directory / "secret").symlink_to("..data/secret")
    return directory / "secret"


def test_a_kubernetes_secret_volume_is_accepted(mounts):
    """C5: mode 0644 behind links, on a tmpfs with a root of mode 1777 that is mounted read-only."""
    volume = mounts.tmpfs(mounts.root / "volume", 0o1777)
    secret = kubernetes_volume(volume, 0o644)
    assert refused(check_secret(secret), "can be read by other users (mode 0644)")
    mounts.make_read_only(volume)
    assert check_secret(secret) == SOUND


@pytest.mark.parametrize("whole", [True, False], ids=["directory", "file"])
def test_a_read_only_bind_mount_of_a_disk_is_accepted(mounts, tmp_path, whole):
    """C5: Compose binds the host's file to /run/secrets/NAME, read-only; a whole host path can be bound too."""
    secret = write(tmp_path / "secret", 0o644)
    assert refused(check_secret(secret), "can be read by other users (mode 0644)")
    if whole:
        inside = mounts.bind(tmp_path, mounts.root / "secrets", read_only=True) / "secret"
    else:
        inside = mounts.bind(secret, mounts.root / "secret", read_only=True)
    assert check_secret(inside) == SOUND


def test_a_writable_bind_mount_of_a_disk_is_refused(mounts, tmp_path):
    """C5: the exception is only for read-only mounts."""
    secret = write(tmp_path / "secret", 0o644)
    inside = mounts.bind(secret, mounts.root / "secret", read_only=False)
    assert refused(check_secret(inside), "can be read by other users (mode 0644)")


def test_a_path_that_others_can_change_is_refused(mounts):
    """C5: a user who can replace a link or a directory on the path can replace the secret."""
    secret = write(mounts.root / "secret", 0o444)
    everybody = mounts.root / "everybody"
    everybody.mkdir()
    everybody.chmod(0o777)
    link = everybody / "link"
    link.symlink_to(secret)
    assert refused(check_secret(link), "can be replaced by other users", str(everybody))
    everybody.chmod(0o1777)
    assert check_secret(link) == SOUND, "in a sticky directory only the owner can replace an entry"
    if os.geteuid() == 0 and pathlib.Path("/proc/self/uid_map").read_text().split()[2] != "1":
        os.chown(link, 12345, 12345, follow_symlinks=False)
        assert refused(check_secret(link), "can be replaced by other users")
    everybody.chmod(0o755)
    assert check_secret(link) == SOUND


PAIR = {"buckets__b__s3__access_key_id": "A"}
KEYS = {
    "s3.secret_access_key_file": ("buckets__b__s3__secret_access_key_file", PAIR),
    "s3.access_key_id_file": (
        "buckets__b__s3__access_key_id_file",
        {"buckets__b__s3__secret_access_key": "hunter2"},
    ),
    "http.credentials.value_file": (
        "buckets__h__http__credentials__c__value_file",
        {"buckets__h__kind": "http", "buckets__h__http__endpoints": "http://127.0.0.1:9", "buckets__h__auth": "anonymous"},
    ),
    "s3.credentials_file": ("buckets__b__s3__credentials_file", {}),
    "authorization_token_file": (
        "buckets__b__s3__container_credentials__authorization_token_file",
        {"buckets__b__s3__container_credentials__url": "http://127.0.0.1:9/"},
    ),
    "keys.secret_file": ("keys__k__secret_file", {"keys__k__policy": "p"}),
    "api_keys.secret_file": ("api_keys__k__secret_file", {"api_keys__k__policy": "p"}),
    "jwt.secret_file": ("jwt__secret_file", {"jwt__issuer": "i", "jwt__audience": "a"}),
    "server.tls.private_key_file": ("server__tls__private_key_file", {}),
}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_that_names_a_secret_file_has_the_same_rule(mounts, tmp_path, key):
    """C5: the rule is the same for every key with a secret file."""
    variable, others = KEYS[key]
    policy = {"policies__p__buckets": "b", "policies__p__methods": "read"}
    text = "[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n"
    text = text if key.endswith("credentials_file") else "hunter2-hunter2-hunter2-hunter2-hunter2"
    on_disk, mounted = write(tmp_path / "secret", 0o644, text), write(mounts.root / "secret", 0o444, text)
    assert refused(check(**{**others, **policy, variable: on_disk}), "can be read by other users (mode 0644)")
    _, errors = check(**{**others, **policy, variable: mounted})
    assert "by other users" not in errors and "cannot be read" not in errors, errors


def test_an_open_configuration_file_on_such_a_mount_does_not_warn(mounts, tmp_path):
    """C5, G12: a ConfigMap or a secret volume is readable only within its container."""
    text = (
        '[buckets.b]\nauth = ["anonymous"]\n[buckets.b.s3]\nendpoints = ["http://127.0.0.1:9000"]\n'
        'access_key_id = "A"\nsecret_access_key = "hunter2"\n'
    )
    on_disk, mounted = write(tmp_path / "t.toml", 0o644, text), write(mounts.root / "t.toml", 0o644, text)

    def run(path):
        command = [BINARY, "--config", path, "check", "--strict"]
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode, done.stderr

    assert refused(run(on_disk), "is a secret, and its file can be read by other users (mode 0644)")
    assert run(mounted) == SOUND


class Credentials(http.server.BaseHTTPRequestHandler):
    """Serves credentials that expire soon, and records the tokens of its requests."""

    tokens = []

    def do_GET(self):
        self.tokens.append(self.headers["authorization"])
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        body = {"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t", "Expiration": expires}
        payload = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def gateway(**keys):
    settings = {"server__port": 0, "admin__port": 0, "buckets__b__auth": "anonymous", **keys}
    environment = {f"TIDEGATE_{key.upper()}": str(value) for key, value in settings.items()}
    process = subprocess.Popen([BINARY], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(what, is_so):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_projected_token_is_read_again_after_its_rotation(mounts):
    """C5, A2: the kubelet replaces a link in a volume that is read-only in the container."""
    volume = mounts.tmpfs(mounts.root / "volume", 0o1777)
    kubernetes_volume(volume, 0o644)
    inside = mounts.bind(volume, mounts.root / "inside", read_only=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Credentials)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Credentials.tokens.clear()
    keys = {
        "buckets__b__s3__endpoints": "http://127.0.0.1:9",
        "buckets__b__s3__container_credentials__url": f"http://127.0.0.1:{server.server_port}/",
        "buckets__b__s3__container_credentials__authorization_token_file": inside / "secret",
    }
    with gateway(**keys) as process:
        eventually("it asks with the first token", lambda: Credentials.tokens)
        newer = volume / "..2026_11_29_17_00_00.456"
        newer.mkdir()
        write(newer / "secret", 0o644, "the-second-token")
        (volume / "..data_tmp").symlink_to(newer.name)
        (volume / "..data_tmp").rename(volume / "..data")
        eventually("it asks with the second token", lambda: "the-second-token" in Credentials.tokens)
        assert process.poll() is None
    server.shutdown()
    server.server_close()
