"""Starts a program for which the kernel has no memory for TCP sockets of IPv6: socket(2) fails with ENOBUFS.

A filter of system calls (seccomp(2)) refuses exactly this call, so that a shortage begins with a request to an IPv6 upstream, and ends
without one. All other calls are those of the kernel.

    python3 errno_launcher.py PROGRAM [arguments]
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.ENOBUFS
#: AUDIT_ARCH of the machine, and its number of socket(2).
MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
#: Offsets in struct seccomp_data: the number of the call, the architecture, the low words of the first two arguments.
NUMBER, ARCHITECTURE, FAMILY, KIND = 0, 4, 16, 24
LOAD, AND, RETURN, EQUAL = 0x20, 0x54, 0x06, 0x15
#: The flags of a socket are in the same argument as its type.
TYPE_MASK = 0xF


def instructions(architecture, socket_number):
    """The filter: each comparison that fails jumps to the last instruction, which allows the call."""
    tests = [
        (ARCHITECTURE, None, architecture),
        (NUMBER, None, socket_number),
        (FAMILY, None, int(socket.AF_INET6)),
        (KIND, TYPE_MASK, int(socket.SOCK_STREAM)),
    ]
    code = []
    for offset, mask, value in tests:
        code.append((LOAD, 0, 0, offset))
        code += [(AND, 0, 0, mask)] if mask else []
        code.append((EQUAL, 0, None, value))
    code += [(RETURN, 0, 0, FAIL), (RETURN, 0, 0, ALLOW)]
    last = len(code) - 1
    return [(kind, yes, last - at - 1 if no is None else no, value) for at, (kind, yes, no, value) in enumerate(code)]


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install():
    code = instructions(*MACHINES[platform.machine()])
    text = b"".join(struct.pack("HBBI", *each) for each in code)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code), text)
    for arguments in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)]:
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install()
    os.execv(sys.argv[1], sys.argv[1:])
