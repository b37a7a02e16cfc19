"""Memory cgroups of version 1 or 2 below the caller's cgroup, with the same interface.

`Hierarchy.find()` selects the version that accounts memory on this machine. It raises `NoCgroup` if no cgroup can be
created. Kernel documents: cgroup-v1/memory.rst, cgroup-v2.rst.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import subprocess
import sys
import time

REMOVE_SECONDS = 10


class NoCgroup(Exception):
    """No memory cgroup can be created; the message is the cause."""


def numbers(text):
    """Parses lines with a name and a number, such as memory.stat."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines())
    return {name: int(value) for name, value in pairs}


def unescaped(path):
    """Decodes a path of mountinfo, which has blanks in octal."""
    return path.encode().decode("unicode_escape")


def mounted(cgroup_file, mounts, file_system, controller):
    """The directory of this process's cgroup: the mount point of the hierarchy and the path in it (cgroups(7), proc(5))."""
    own = None
    for line in cgroup_file.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") if controller else controllers == "":
            own = pathlib.PurePosixPath(path)
    if own is None:
        return None
    for line in mounts.splitlines():
        before, after = line.split(" - ", 1)
        fields, (kind, _, options) = before.split(" "), after.split(" ", 2)
        root, point = pathlib.PurePosixPath(unescaped(fields[3])), pathlib.Path(unescaped(fields[4]))
        is_wanted = kind == file_system and (not controller or controller in options.split(","))
        if is_wanted and own.is_relative_to(root):
            return point / own.relative_to(root)
    return None


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    version: int
    #: The cgroup of this process. Groups are created below it.
    parent: pathlib.Path

    @staticmethod
    def find():
        own, mounts = pathlib.Path("/proc/self/cgroup").read_text(), pathlib.Path("/proc/self/mountinfo").read_text()
        unified = mounted(own, mounts, "cgroup2", None)
        if unified and "memory" in (unified / "cgroup.controllers").read_text().split():
            delegate_memory(unified)
            return Hierarchy(2, unified)
        first = mounted(own, mounts, "cgroup", "memory")
        if first and first.is_dir():
            return Hierarchy(1, first)
        raise NoCgroup("the memory controller is mounted neither as cgroup v1 nor as cgroup v2")

    def create(self, name, limit_bytes):
        made = MemoryCgroupV2 if self.version == 2 else MemoryCgroupV1
        path = self.parent / name
        try:
            path.mkdir()
        except OSError as error:
            raise NoCgroup(f"cannot create {path}: {error}; run as root or in a delegated cgroup") from error
        group = made(path)
        group.set_limit(limit_bytes)
        return group


def delegate_memory(parent):
    """Enables the memory controller for child cgroups. A cgroup with processes cannot have such children ("no internal
    processes"), unless it is the root, so its processes are first moved to a child."""
    control = parent / "cgroup.subtree_control"
    if "memory" in control.read_text().split():
        return
    try:
        control.write_text("+memory")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise NoCgroup(f"cannot enable the memory controller in {control}: {error}") from error
        leaf = parent / "tidegate-tests"
        leaf.mkdir(exist_ok=True)
        for pid in (parent / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        control.write_text("+memory")


class MemoryCgroup:
    version = 0

    def __init__(self, path):
        self.path = path
        self._eaters = []

    def read(self, name):
        return (self.path / name).read_text()

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def inner(self, name, limit_bytes):
        """A cgroup below this one. In version 2 this one can then have no processes."""
        if self.version == 2:
            self.write("cgroup.subtree_control", "+memory")
        group = type(self)(self.path / name)
        group.path.mkdir()
        group.set_limit(limit_bytes)
        return group

    def usage_bytes(self):
        raise NotImplementedError

    def limit_bytes(self):
        raise NotImplementedError

    def set_limit(self, limit_bytes):
        """Sets the limit, also at run time. Swap is included."""
        raise NotImplementedError

    def oom_kills(self):
        raise NotImplementedError

    def stat(self):
        return numbers(self.read("memory.stat"))

    def pids(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def launcher(self, descriptors=None, hard_descriptors=None):
        """A prefix for a command that runs it in this cgroup with these limits of descriptors."""
        limits = f"ulimit -Sn {descriptors} && " if descriptors else ""
        limits += f"ulimit -Hn {hard_descriptors} && " if hard_descriptors else ""
        script = f'echo $$ > "$0" && {limits}exec "$@"'
        return ["sh", "-c", script, str(self.path / "cgroup.procs")]

    def eat(self, size_bytes):
        """Starts a process in this cgroup that holds `size_bytes` of memory until its `stop` or the removal of the cgroup."""
        eater = Eater(self, size_bytes)
        self._eaters.append(eater)
        return eater

    def remove(self):
        for eater in self._eaters:
            eater.stop()
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                return self.path.rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


class MemoryCgroupV1(MemoryCgroup):
    version = 1

    def usage_bytes(self):
        return int(self.read("memory.usage_in_bytes"))

    def limit_bytes(self):
        return int(self.read("memory.limit_in_bytes"))

    def set_limit(self, limit_bytes):
        names = ["memory.limit_in_bytes"]
        if (self.path / "memory.memsw.limit_in_bytes").exists():
            # The limit with swap must not be below the limit without, so the order depends on the direction.
            names.insert(0 if limit_bytes > self.limit_bytes() else 1, "memory.memsw.limit_in_bytes")
        for name in names:
            self.write(name, limit_bytes)

    def oom_kills(self):
        return numbers(self.read("memory.oom_control"))["oom_kill"]


class MemoryCgroupV2(MemoryCgroup):
    version = 2

    def usage_bytes(self):
        return int(self.read("memory.current"))

    def limit_bytes(self):
        return int(self.read("memory.max"))

    def set_limit(self, limit_bytes):
        self.write("memory.max", limit_bytes)
        if (self.path / "memory.swap.max").exists():
            self.write("memory.swap.max", 0)

    def oom_kills(self):
        return numbers(self.read("memory.events"))["oom_kill"]


class Eater:
    """A process that holds anonymous pages, each written once."""

    PROGRAM = """
import mmap, sys
size = int(sys.argv[1])
held = mmap.mmap(-1, size)
for page in range(0, size, 4096):
    held[page] = 1
print("held", flush=True)
sys.stdin.read()
"""

    def __init__(self, group, size_bytes):
        command = [*group.launcher(), sys.executable, "-c", self.PROGRAM, str(size_bytes)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
        assert self.process.stdout.readline() == b"held\n", f"{size_bytes} bytes could not be allocated in {group.path}"

    def stop(self):
        if self.process.poll() is None:
            self.process.communicate()
        self.process.stdin.close()
        self.process.stdout.close()
