"""Kernel memory of TCP sockets, read with `ss -tmin` (ss(8); `skmem` is struct sk_meminfo)."""

import dataclasses
import re
import subprocess

MEMORY = re.compile(r"skmem:\(([^)]*)\)")
FIELD = re.compile(r"([a-z]+)(\d+)")


@dataclasses.dataclass(frozen=True)
class SocketMemory:
    """Kernel memory of one socket, in bytes."""

    local: str
    peer: str
    #: Received and unread data, with the kernel's overhead.
    receive: int
    #: SO_RCVBUF in effect.
    receive_limit: int
    #: Unsent and unacknowledged data, with the kernel's overhead.
    send: int
    #: SO_SNDBUF in effect.
    send_limit: int
    #: Memory that is allocated ahead.
    forward: int

    @property
    def held(self):
        return self.receive + self.send


def parse(text):
    """Parses the output of `ss -tminHO`: one line for each socket."""
    found = []
    for line in text.splitlines():
        memory = MEMORY.search(line)
        columns = line.split()
        if not memory or len(columns) < 5:
            continue
        fields = {name: int(value) for name, value in FIELD.findall(memory.group(1))}
        # r, rb, t, tb, f, w: allocated and limit of both directions, forward allocated, queued for sending
        found.append(
            SocketMemory(
                local=columns[3],
                peer=columns[4],
                receive=fields["r"],
                receive_limit=fields["rb"],
                send=fields["w"],
                send_limit=fields["tb"],
                forward=fields["f"],
            )
        )
    return found


def sockets(*conditions):
    """Established sockets that match one of the filters of ss, such as `sport = :8080`."""
    command = ["ss", "-tminHO", "state", "established", "( " + " or ".join(conditions) + " )"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return parse_established(done.stdout)


def parse_established(text):
    # With a single state in the filter, ss omits the column of the state.
    return parse("\n".join("ESTAB " + line for line in text.splitlines()))


def of_gateway(gateway_port, *upstream_ports):
    """The gateway's sockets of its client and upstream connections."""
    return sockets(f"sport = :{gateway_port}", *(f"dport = :{port}" for port in upstream_ports))


def held_bytes(found):
    return sum(socket.held for socket in found)
