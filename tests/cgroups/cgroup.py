"""Memory cgroups below the caller's own, of version 1 or 2, with the same interface.

`Hierarchy.find()` selects the version that accounts memory on this machine. It raises `NoCgroup` if no group can be
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
    """This machine or this user cannot create a memory cgroup; the text has the reason."""


def numbers(text):
    """Lines of a name and a number, such as memory.stat."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines())
    return {name: int(value) for name, value in pairs}


def unescaped(path):
    """Paths in mountinfo have blanks in octal."""
    return path.encode().decode("unicode_escape")


def mounted(cgroup_file, mounts, file_system, controller):
    """The directory of this process's cgroup: the mount point of the hierarchy and the path in it (cgroups(7),
    proc(5))."""
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
    #: The cgroup of this process; groups are made below it.
    parent: pathlib.Path

    @staticmethod
    def find():
        own, mounts = pathlib.Path("/proc/self/cgroup").read_text(), pathlib.Path("/proc/self/mountinfo").read_text()
        unified = mounted(own, mounts, "cgroup2", None)
        if unified and "memory" in (unified / "cgroup.controllers").read_text().split():
            delegate(unified, "memory")
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


def delegate(parent, controller):
    """Enables a controller for children. A group with processes cannot have such children (the rule "no internal
    processes"), unless it is the root: its processes move to a child of their own first."""
    control = parent / "cgroup.subtree_control"
    if controller in control.read_text().split():
        return
    try:
        control.write_text(f"+{controller}")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise NoCgroup(f"cannot enable the {controller} controller in {control}: {error}") from error
        leaf = parent / "tidegate-tests"
        leaf.mkdir(exist_ok=True)
        for pid in (parent / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        control.write_text(f"+{controller}")


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
        """A child group. In version 2 this group can then have no processes of its own."""
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
        """Also at run time. Swap is counted, so that it cannot be used beyond the limit."""
        raise NotImplementedError

    def oom_kills(self):
        raise NotImplementedError

    def stat(self):
        return numbers(self.read("memory.stat"))

    def pids(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def launcher(self, descriptors=None, hard_descriptors=None):
        """A prefix for a command that is to run in this group, with its own descriptor limits."""
        limits = f"ulimit -Sn {descriptors} && " if descriptors else ""
        limits += f"ulimit -Hn {hard_descriptors} && " if hard_descriptors else ""
        script = f'echo $$ > "$0" && {limits}exec "$@"'
        return ["sh", "-c", script, str(self.path / "cgroup.procs")]

    def eat(self, size_bytes):
        """A sibling process in this group that holds this much memory until `stop` is called on it or the group is
        removed."""
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
            # Memory with swap can never be less than memory: the order depends on the direction.
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


class CpuCgroup(MemoryCgroup):
    """A CPU cgroup below the caller's own; version 2 if it has the CPU controller."""

    PERIOD_US = 100_000

    def __init__(self, path, version):
        super().__init__(path)
        self.version = version

    @staticmethod
    def create(name):
        own, mounts = pathlib.Path("/proc/self/cgroup").read_text(), pathlib.Path("/proc/self/mountinfo").read_text()
        unified = mounted(own, mounts, "cgroup2", None)
        if unified and "cpu" in (unified / "cgroup.controllers").read_text().split():
            delegate(unified, "cpu")
            parent, version = unified, 2
        else:
            parent, version = mounted(own, mounts, "cgroup", "cpu"), 1
        if not parent:
            raise NoCgroup("the CPU controller is mounted neither as cgroup v1 nor as cgroup v2")
        path = parent / name
        try:
            path.mkdir()
        except OSError as error:
            raise NoCgroup(f"cannot create {path}: {error}; run as root or in a delegated cgroup") from error
        return CpuCgroup(path, version)

    def set_quota(self, share):
        """A share of one processor; none for no quota."""
        quota = int(share * self.PERIOD_US) if share else None
        if self.version == 2:
            self.write("cpu.max", f"{quota or 'max'} {self.PERIOD_US}")
        else:
            self.write("cpu.cfs_quota_us", quota or -1)

    def throttled(self):
        """Periods in which the kernel held the group."""
        return numbers(self.read("cpu.stat"))["nr_throttled"]

    def oom_kills(self):
        return 0


class Eater:
    """Holds memory: anonymous pages, each written once."""

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
        assert self.process.stdout.readline() == b"held\n", f"{size_bytes} bytes were not to be had in {group.path}"

    def stop(self):
        if self.process.poll() is None:
            self.process.communicate()
        self.process.stdin.close()
        self.process.stdout.close()
