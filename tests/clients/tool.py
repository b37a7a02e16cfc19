"""Command-line S3 clients as a user runs them: keys and endpoint are configured, everything else is a default."""

import os
import pathlib
import subprocess
import sys

import servers
import urllib3

BIN = pathlib.Path(sys.executable).parent
#: The versions of the AWS CLI. Version 2 is Debian's: no other registry has it.
AWS_CLI = {"v1": [sys.executable, "-m", "awscli"], "v2": ["/usr/bin/aws"]}
#: Keys with characters that clients, proxies and signatures encode differently.
AWKWARD = ["plain.txt", "a b+c.txt", "100%.txt", "sub dir/ü 日本.txt", "sub dir/deep/it's (1)&=;.txt", "~tilde/@home,$x.txt"]


class Tool:
    """One program with its own home directory."""

    def __init__(self, directory, command, **environment):
        self.command = [str(part) for part in command]
        self.directory = directory
        home = {"HOME": str(directory), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}
        self.environment = servers.clean_environment(**home, **environment)

    def __call__(self, *arguments, stdin=None):
        """Runs the program, asserts that it exits with 0, and returns its output as text."""
        return self.output(*arguments, stdin=stdin).decode()

    def output(self, *arguments, stdin=None):
        """The same with the output as bytes."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{self.command[0]} {arguments}: {done.stderr.decode()[-3000:]}"
        return done.stdout

    def run(self, *arguments, stdin=None):
        """Runs the program without an assertion: the caller asserts the exit code."""
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
            **options,
        )


def aws_environment(keys, **more):
    """The environment of an AWS CLI with a key pair, without the machine's own settings, and with one attempt per
    request."""
    usual = {
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
    }
    return usual | more


def aws_cli(version, target, directory, **variables):
    """The AWS CLI with only keys and endpoint, and these variables."""
    command = [*AWS_CLI[version], "--endpoint-url", target.endpoint]
    return Tool(directory, command, **aws_environment(target.keys, **variables))


def assert_empty(aws, base):
    """Nothing is below this URL: `aws s3 ls` prints nothing and exits with 1, which it does without output for no other
    reason."""
    done = aws.run("s3", "ls", "--recursive", base)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def make_tree(directory, names=AWKWARD, size=3000):
    """Writes files with these names; returns the content of each."""
    content = {name: os.urandom(size) for name in names}
    for name, body in content.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return content


def read_tree(directory):
    """The content of every file below a directory."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def fetch(url, method="GET", body=None):
    """Sends a request to a presigned URL without other authentication; returns status and body."""
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10)) as pool:
        answer = pool.request(method, url, body=body)
        return answer.status, answer.data
