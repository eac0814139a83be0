#!/usr/bin/env python3
"""Attacks on the resources of a relay, and what honest neighbours notice of them.

The relay has to run in open mode (`--auth open`), so that agents need no keys. Only the standard
library is used. Each attack runs for some seconds beside pairs of agents that send each other one
small envelope at a time; at the end stand their round-trip times, the memory of the relay, and what
became of the attackers.

    relay-tokio --auth open --rate-limit off --listen 127.0.0.1:9000 &
    attacks.py --port 9000 --pid $! pongs
"""

import argparse
import collections
import json
import os
import re
import resource
import selectors
import socket
import struct
import sys
import threading
import time
from urllib.parse import quote

MASK = b"\x12\x34\x56\x78"
CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL = 0x80
MESSAGE, QUEUE_FULL, RATE_LIMITED = 4, 14, 15


def mask(payload):
    size = len(payload)
    key = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame(first, payload=b""):
    """A frame as a client writes it; `first` is its first byte."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + MASK + mask(payload)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def envelope(sender, recipient, size=0, message_id=b"0123456789abcdef"):
    """A MESSAGE whose payload makes it about `size` bytes long, and no shorter than it must be."""
    head = b"\x08\x01" + field(2, sender.encode()) + field(3, recipient.encode())
    head += b"\x20" + varint(MESSAGE) + field(5, message_id)
    rest = max(size - len(head) - 8, 0)
    return head + field(10, field(2, b"x" * rest))


def address(name):
    return f"pinch:{name}@localhost"


class Agent:
    """One connection that has joined under `name`."""

    def __init__(self, target, name, receive_buffer=None):
        self.address = address(name)
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(target)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = (
            f"GET /ws?address={quote(self.address)} HTTP/1.1\r\nHost: localhost\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.sock.sendall(request.encode())
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self._read()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.split(b"\r\n")[0].decode())
        self.buffer = bytearray(rest)

    def _read(self):
        some = self.sock.recv(1 << 18)
        if not some:
            raise EOFError
        self.buffer += some

    def frames(self):
        """The whole frames that have come, as (first byte, payload)."""
        while len(self.buffer) >= 2:
            size, start = self.buffer[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(self.buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self.buffer[2:10], "big"), 10
            if len(self.buffer) < start + size or start > len(self.buffer):
                return
            first, payload = self.buffer[0], bytes(self.buffer[start : start + size])
            del self.buffer[: start + size]
            yield first, payload

    def wait_message(self):
        """The next message; pings are answered. Raises EOFError, or ConnectionError at a close."""
        while True:
            for first, payload in self.frames():
                if first == FINAL | PING:
                    self.sock.sendall(frame(FINAL | PONG, payload))
                elif first == FINAL | CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    raise ConnectionError(f"{code} {payload[2:].decode()}")
                elif first == FINAL | BINARY:
                    return payload
            self._read()


class Neighbours:
    """Pairs that send each other one envelope at a time, each pair on a thread of its own."""

    def __init__(self, target, pairs):
        self.times, self.lost, self.stop = [], 0, threading.Event()
        self.threads = [threading.Thread(target=self._live, args=(target, i)) for i in range(pairs)]
        for thread in self.threads:
            thread.start()

    def _live(self, target, index):
        try:
            one, two = (Agent(target, f"honest-{os.getpid()}-{index}-{side}") for side in "ab")
            there = frame(FINAL | BINARY, envelope(one.address, two.address, 300))
            back = frame(FINAL | BINARY, envelope(two.address, one.address, 300))
            for agent in (one, two):
                agent.sock.settimeout(30)
            while not self.stop.is_set():
                began = time.perf_counter()
                one.sock.sendall(there)
                two.wait_message()
                two.sock.sendall(back)
                one.wait_message()
                # Both ways: a round trip.
                self.times.append(time.perf_counter() - began)
                time.sleep(0.002)
        except (OSError, EOFError) as error:
            self.lost += 1
            print(f"an honest pair ended: {error!r}", file=sys.stderr)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        times = sorted(self.times)
        if not times:
            return {"honest_pairs_lost": self.lost}
        at = lambda part: round(1000 * times[min(int(part * len(times)), len(times) - 1)], 3)
        return {
            "round_trips": len(times),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "max_ms": at(1),
            "honest_pairs_lost": self.lost,
        }


def rss(pid, key="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(rf"^{key}:\s+(\d+) kB", status.read(), re.M)[1]) / 1024


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Flood:
    """Connections on a thread of their own that write `beginning`, and then `chunk` without end.

    What the relay says is read; pings are not answered. With `rejoin`, those that are cut come back.
    """

    def __init__(self, target, name, count, chunk, beginning=b"", rejoin=True):
        self.endings, self.sent = collections.Counter(), 0
        self.target, self.name, self.chunk = target, name, chunk
        self.beginning, self.rejoin = beginning, rejoin
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, index):
        turn = 0
        while not self.stop.is_set():
            turn += 1
            try:
                agent = Agent(self.target, f"{self.name}-{os.getpid()}-{index}-{turn}")
                agent.sock.settimeout(0.5)
                agent.sock.sendall(self.beginning)
                self._flood(agent)
            except (OSError, EOFError) as error:
                self.endings[str(error) or type(error).__name__] += 1
                if not self.rejoin:
                    return
                time.sleep(0.05)

    def _flood(self, agent):
        selector = selectors.DefaultSelector()
        selector.register(agent.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        agent.sock.setblocking(False)
        left = memoryview(b"")
        while not self.stop.is_set():
            for _, events in selector.select(0.5):
                if events & selectors.EVENT_READ:
                    agent._read()
                    for first, payload in agent.frames():
                        if first == FINAL | CLOSE:
                            code = int.from_bytes(payload[:2], "big")
                            raise ConnectionError(f"{code} {payload[2:].decode()}")
                if events & selectors.EVENT_WRITE:
                    left = left or memoryview(self.chunk)
                    try:
                        sent = agent.sock.send(left)
                    except BlockingIOError:
                        continue
                    self.sent += sent
                    left = left[sent:]
        agent.sock.close()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return {"attack_mb": round(self.sent / 1e6, 1), "attackers_ended": dict(self.endings)}


FLOODS = {
    "pongs": (b"", frame(FINAL | PONG) * 40_000),
    "pings": (b"", frame(FINAL | PING) * 40_000),
    "fragments": (frame(BINARY), frame(CONTINUE) * 40_000),
    # A message of the largest size, and then pongs: reads that grew large find many small frames.
    "mixed": (b"", frame(BINARY, b"\x0a\x00" * 60_000) + frame(FINAL | PONG) * 40_000),
}


def flood(options, target):
    beginning, chunk = FLOODS[options.attack]
    attack = Flood(target, "flood", options.connections, chunk, beginning)
    time.sleep(options.seconds)
    return attack.end()


class Hoard:
    """Envelopes that are kept: `recipients` read nothing. Behind each envelope that is accepted go
    `rejected` ones for an address that is none."""

    def __init__(self, target, recipients, size, rejected, total):
        self.accepted = 0
        self.readers = [Agent(target, f"hoard-{os.getpid()}-{i}") for i in range(recipients)]
        for reader in self.readers:
            # Joined, and silent from now on.
            reader.sock.sendall(self._first_pong(reader))
        sender = Agent(target, f"hoarder-{os.getpid()}")
        threading.Thread(target=self._drain, args=(sender,), daemon=True).start()
        bad = frame(FINAL | BINARY, envelope(sender.address, "nobody", size))
        for reader in self.readers:
            message = envelope(sender.address, reader.address, size)
            group = frame(FINAL | BINARY, message) + rejected * bad
            for _ in range(total // recipients // len(message)):
                sender.sock.sendall(group)
                self.accepted += len(message)
        self.sender = sender

    @staticmethod
    def _first_pong(reader):
        while True:
            for first, payload in reader.frames():
                if first == FINAL | PING:
                    return frame(FINAL | PONG, payload)
            reader._read()

    @staticmethod
    def _drain(sender):
        try:
            while sender.sock.recv(1 << 20):
                pass
        except OSError:
            pass


def hoard(options, target):
    before = rss(options.pid)
    attack = Hoard(target, options.connections, options.size, options.rejected, options.megabytes << 20)
    time.sleep(2)
    after = rss(options.pid)
    sent = attack.accepted / (1 << 20)
    return {"accepted_mib": round(sent, 1), "rss_mib": round(after, 1), "rss_grown_mib": round(after - before, 1)}


def begun(options, target):
    """Messages that have begun: all but the last byte of a frame, or of the last fragment."""
    size = options.size
    whole = frame(FINAL | BINARY, b"x" * size)[:-1]
    fragments = frame(BINARY, b"x" * (size // 2)) + frame(CONTINUE, b"x" * (size - size // 2 - 1))
    before, agents = rss(options.pid), []
    for i in range(options.connections):
        agent = Agent(target, f"begun-{os.getpid()}-{i}")
        agent.sock.sendall(fragments if options.fragments else whole)
        agents.append(agent)
    time.sleep(2)
    grown = rss(options.pid) - before
    deadline, endings = time.monotonic() + options.seconds, collections.Counter()
    while agents and time.monotonic() < deadline:
        time.sleep(0.2)
        for agent in list(agents):
            agent.sock.setblocking(False)
            try:
                while True:
                    agent._read()
            except BlockingIOError:
                continue
            except (OSError, EOFError) as error:
                ending = repr(error)
                for first, payload in agent.frames():
                    if first == FINAL | CLOSE:
                        ending = f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"
                endings[ending] += 1
                agents.remove(agent)
    return {
        "kib_per_connection": round(grown * 1024 / options.connections, 1),
        "attackers_ended": dict(endings),
        "attackers_left": len(agents),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pid", type=int, help="the relay's process, whose memory is looked at")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--pairs", type=int, default=4, help="honest neighbours")
    parser.add_argument("--connections", type=int, default=1, help="of the attacker")
    parser.add_argument("--size", type=int, default=32_000, help="bytes of a message")
    parser.add_argument("--rejected", type=int, default=6, help="envelopes behind each accepted one")
    parser.add_argument("--megabytes", type=int, default=100, help="MiB of envelopes to be kept")
    parser.add_argument("--fragments", action="store_true", help="begun messages are fragmented")
    parser.add_argument("attack", choices=["none", *FLOODS, "hoard", "begun"])
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    target = (options.host, options.port)
    neighbours = Neighbours(target, options.pairs)
    time.sleep(0.5)
    used = cpu(options.pid) if options.pid else 0
    began = time.monotonic()
    if options.attack == "none":
        time.sleep(options.seconds)
        result = {}
    elif options.attack == "hoard":
        result = hoard(options, target)
    elif options.attack == "begun":
        result = begun(options, target)
    else:
        result = flood(options, target)
    if options.pid:
        result["relay_cores"] = round((cpu(options.pid) - used) / (time.monotonic() - began), 2)
        result["rss_peak_mib"] = round(rss(options.pid, "VmHWM"), 1)
    print(json.dumps({"attack": options.attack, **result, **neighbours.end()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
