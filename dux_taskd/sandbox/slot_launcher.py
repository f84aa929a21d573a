"""The slot launcher: the one part of DuxNet that may change uids, and that does nothing else.

`python -m dux_taskd.sandbox.slot_launcher --socket PATH --serve-uid UID` as root (or with CAP_SETUID, CAP_SETGID and
CAP_KILL). It opens its socket, gives up every other capability, and then starts each job of dux_taskd under a uid that
nothing else on the machine uses. It holds no key, reads no network, and takes paths from nobody.

Source: settled.md 7, facts/sandboxes.md pitfall 1.
"""

from __future__ import annotations

import argparse
import os
import pwd
import select
import signal
import socket
import struct
import sys
from pathlib import Path

import msgspec

from common.errors import DuxError
from dux_taskd.sandbox import cgroups, confine, slot_keeper

FIRST_UID = 1_900_000_000  # above systemd's container range, below 2^31: nobody's
RANGE = 64  # uids of one launcher; several may run on one machine
RANGES_MAX = 1_024
SLOTS = 4
BACKLOG = 8
KEEP = frozenset({confine.CAP_SETUID, confine.CAP_SETGID, confine.CAP_KILL})
WAIT_MS = 500
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits(3): no slot could hold its limits on this machine


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; `first_uid` is where ranges begin until one is claimed."""

    socket: Path
    serve_uid: int
    slots: int
    first_uid: int


def uid_of(name: str) -> int:
    """The uid of a user of this machine; argparse says what is wrong with the name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {name}") from None


def read_options(words: list[str]) -> Options:
    """The command line as values."""
    parser = argparse.ArgumentParser(prog="slot_launcher", description="Starts sandboxed jobs under uids of their own.")
    parser.add_argument("--socket", type=Path, required=True, help="where dux_taskd reaches it")
    served = parser.add_mutually_exclusive_group(required=True)
    served.add_argument("--serve-uid", type=int, help="the uid of dux_taskd; nobody else is served")
    served.add_argument("--serve-user", type=uid_of, dest="serve_uid", help="the same by name")
    parser.add_argument("--slots", type=int, default=SLOTS, choices=range(1, RANGE + 1), help="jobs at a time")
    parser.add_argument("--first-uid", type=int, default=FIRST_UID, help="where the slots' uids begin")
    return Options(**vars(parser.parse_args(words)))


def open_socket(options: Options) -> socket.socket:
    """The socket, which only the served uid may open; made before rights are given up."""
    options.socket.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        server.bind(str(options.socket))
    finally:
        os.umask(old)
    os.chown(options.socket, options.serve_uid, -1)
    server.listen(BACKLOG)
    return server


def claim_uids(first_uid: int) -> tuple[socket.socket, int]:
    """A range of uids that no other launcher of this machine uses, as long as the returned socket is open.

    Raises:
        OSError: all ranges are taken.
    """
    for number in range(RANGES_MAX):
        claim, first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), first_uid + number * RANGE
        try:
            claim.bind(f"\0duxnet-slots-{first}")  # a name without a file, which the kernel gives once
        except OSError:
            claim.close()
        else:
            return claim, first
    raise OSError(f"all {RANGES_MAX} ranges of slot uids are taken")


def peer_uid(caller: socket.socket) -> int:
    """The uid at the other end, as the kernel knows it."""
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class Launcher:
    """Hands each caller to a keeper process, one slot each."""

    def __init__(self, options: Options, server: socket.socket, parents: cgroups.Parents) -> None:
        self._options, self._server, self._parents = options, server, parents
        self._free = [options.first_uid + number for number in range(options.slots)]
        self._keepers: dict[int, int] = {}  # process -> its slot's uid
        self._stopping = False

    def stop(self, _signal: int, _frame: object) -> None:
        """Leave the loop after the signal."""
        self._stopping = True

    def serve(self) -> None:
        """Until a signal: accept while a slot is free, and take slots back from keepers that ended well."""
        while not self._stopping and (self._free or self._keepers):
            if self._free and select.select([self._server], [], [], WAIT_MS / 1000)[0]:
                self._accept()
            elif not self._free:
                signal.sigtimedwait({signal.SIGCHLD}, WAIT_MS / 1000)
            self._reap()

    def _accept(self) -> None:
        caller, _ = self._server.accept()
        with caller:
            if peer_uid(caller) != self._options.serve_uid:
                return
            uid = self._free.pop(0)
            pid = os.fork()
            if pid == 0:
                os._exit(self._keep(caller, uid))
            self._keepers[pid] = uid

    def _keep(self, caller: socket.socket, uid: int) -> int:
        """In the keeper's process: serve, and let no error climb into the launcher's code."""
        try:
            self._server.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            return slot_keeper.keep(caller, self._parents, uid)
        except (OSError, EOFError, DuxError) as error:
            print(f"slot {uid}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - its log is stderr
            return slot_keeper.CLEAN_EXIT if isinstance(error, DuxError | EOFError) else slot_keeper.STUCK_EXIT

    def _reap(self) -> None:
        while self._keepers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            uid = self._keepers.pop(pid)
            if os.waitstatus_to_exitcode(status) == slot_keeper.CLEAN_EXIT:
                self._free.append(uid)

    def end(self) -> None:
        """Stop every keeper, and with it its job."""
        for pid in self._keepers:
            os.kill(pid, signal.SIGTERM)
        for pid in self._keepers:
            os.waitpid(pid, 0)


def main(words: list[str] | None = None) -> int:
    """Open, give up rights, serve."""
    options = read_options(sys.argv[1:] if words is None else words)
    claim, first_uid = claim_uids(options.first_uid)
    options = msgspec.structs.replace(options, first_uid=first_uid)
    try:
        parents = cgroups.prepare(cgroups.find_parents())
    except OSError as error:
        print(f"no slots, so no native jobs on this machine: {error}", file=sys.stderr)  # noqa: T201 - its log is stderr
        return EXIT_UNAVAILABLE
    server = open_socket(options)
    confine.keep_capabilities(KEEP)
    confine.no_new_privileges()
    if confine.effective_capabilities() & ~sum(1 << number for number in KEEP):
        raise OSError("capabilities were kept that must go")
    launcher = Launcher(options, server, parents)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGTERM, launcher.stop)
    signal.signal(signal.SIGINT, launcher.stop)
    try:
        launcher.serve()
    finally:
        launcher.end()
        options.socket.unlink(missing_ok=True)
        cgroups.remove(parents)
        claim.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
