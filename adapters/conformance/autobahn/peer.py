"""The WebSocket client that the cases drive: what the suite calls a protocol.

It does what it is told, right or wrong, and is strict with the server.
"""

import asyncio
import base64
import enum
import hashlib
import http.client
import io
import os
import struct
from collections import Counter, deque
from types import SimpleNamespace

import frames
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Violation

# How long a server may take for its part of a closing handshake, in seconds.
CLOSE_LIMIT = 1

# How much is read ahead, in bytes. Long messages take long where it is less.
READ_LIMIT = 1 << 20

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(key):
    """Returns what a server answers to the key of a request."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


class State(enum.Enum):
    OPEN = enum.auto()
    # A close frame is written.
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class Peer:
    """One connection. Names in camelCase are those that the cases know."""

    STATE_OPEN = State.OPEN
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007
    factory = SimpleNamespace(isServer=False)

    def __init__(self, patience):
        # Deadlines are for a machine with nothing else to do: they are multiplied by this.
        self.patience = patience
        self.state = State.OPEN
        self.connectionWasOpen = False
        # Who ended the connection, and how.
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.localCloseReason = self.remoteCloseCode = None
        # How many frames of each opcode were sent.
        self.txFrameStats = Counter()
        self.autoFragmentSize = None
        # What is to be written: bytes, and whether they go with a call of their own.
        self.outgoing = deque()
        self.queued = asyncio.Event()
        # The data messages that were sent and have not come back, the last of which may be a part.
        self.sent = deque()
        self.sending = self.receiving = None
        self.heard_close = False

    async def run(self, address, path, case_class):
        """Connects, lets a case of `case_class` play, and returns it when the connection has ended."""
        self.reader, self.writer = await asyncio.open_connection(*address, limit=READ_LIMIT)
        try:
            await self.upgrade(address, path)
            self.connectionWasOpen = True
            self.case = case_class(self)
            async with asyncio.TaskGroup() as self.tasks:
                self.background = [self.tasks.create_task(self.write_queued())]
                self.case.onOpen()
                await self.read_frames()
                for task in self.background:
                    task.cancel()
        finally:
            self.writer.transport.abort()
        self.case.onConnectionLost(self.failedByMe)
        return self.case

    async def upgrade(self, address, path):
        key = base64.b64encode(os.urandom(16)).decode()
        host, port = address
        self.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status, _, fields = (await self.reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        if not status.startswith(b"HTTP/1.1 101 "):
            raise Violation(f"no upgrade: {status}")
        if http.client.parse_headers(io.BytesIO(fields))["Sec-WebSocket-Accept"] != accept(key):
            raise Violation("the key was not accepted")

    # What comes from the server.

    async def read_frames(self):
        try:
            while self.state is not State.CLOSED:
                self.on_frame(await frames.read(self.reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.state = State.CLOSED

    def on_frame(self, frame):
        # A frame may have been buffered when the connection was dropped.
        if self.state is State.CLOSED:
            return
        if self.heard_close:
            raise Violation("a frame behind the close frame")
        if frame.opcode == CLOSE:
            self.on_close(frame.payload)
        elif frame.opcode == PING:
            self.sendFrame(PONG, frame.payload.decode("latin-1"))
        elif frame.opcode == PONG:
            self.case.onPong(frame.payload.decode("latin-1"))
        else:
            self.on_data(frame)

    def on_close(self, payload):
        self.remoteCloseCode, _ = frames.close_reason(payload)
        self.heard_close = self.wasClean = True
        self.sendCloseFrame(self.remoteCloseCode, isReply=True)
        # The server ends the stream (RFC 6455, section 7.1.1).
        self.after(CLOSE_LIMIT * self.patience, self.drop)

    def on_data(self, frame):
        if (frame.opcode == CONTINUATION) != (self.receiving is not None):
            raise Violation("a message begins in another, or goes on where there is none")
        opcode, parts = self.receiving or (frame.opcode, [])
        parts.append(frame.payload)
        if not frame.is_last:
            self.receiving = opcode, parts
            return
        self.receiving = None
        payload = b"".join(parts)
        if opcode == TEXT:
            frames.text(payload)
        # The cases look at the length only where a message is long.
        if not self.sent or self.sent.popleft() != (opcode, payload):
            raise Violation("the echo is not what was sent")
        self.case.onMessage(payload.decode("latin-1"), opcode == BINARY)

    # What goes to the server.

    async def write_queued(self):
        """Writes what is queued, all at once but for what has to go alone."""
        try:
            while await self.queued.wait():
                self.queued.clear()
                while self.outgoing:
                    self.writer.write(self.next_piece())
                    await self.writer.drain()
                    await asyncio.sleep(0)
        except ConnectionError:
            # Whoever reads notices, and may have something to read before.
            return

    def next_piece(self):
        first, is_alone = self.outgoing.popleft()
        piece = [first]
        while not is_alone and self.outgoing and not self.outgoing[0][1]:
            piece.append(self.outgoing.popleft()[0])
        return b"".join(piece)

    def queue(self, data, is_alone=False):
        self.outgoing.append((data, is_alone))
        self.queued.set()

    def remember(self, opcode, payload, is_last):
        """Notes what should come back."""
        if opcode in (TEXT, BINARY):
            self.sending = opcode, []
        if self.sending is None or opcode not in (CONTINUATION, TEXT, BINARY):
            return
        opcode, parts = self.sending
        parts.append(payload)
        if is_last:
            self.sent.append((opcode, b"".join(parts)))
            self.sending = None

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, payload_len=None, chopsize=None, sync=False):
        if payload_len is not None:
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        payload = payload.encode("latin-1")
        self.txFrameStats[opcode] += 1
        self.remember(opcode, payload, fin)
        data = frames.frame(opcode, payload, fin, rsv)
        if chopsize is None:
            self.queue(data, is_alone=sync)
        else:
            for start in range(0, len(data), chopsize):
                self.queue(data[start : start + chopsize], is_alone=True)

    def sendMessage(self, payload, isBinary=False, fragmentSize=None):
        # An empty message has a frame, too.
        length = max(len(payload), 1)
        size = fragmentSize or self.autoFragmentSize or length
        opcode = BINARY if isBinary else TEXT
        for start in range(0, length, size):
            end = start + size
            self.sendFrame(opcode, payload[start:end], fin=end >= length)
            opcode = CONTINUATION

    def beginMessage(self):
        """Begins a text message whose frames are sent piece by piece."""
        self.frame_opcode = TEXT

    def beginMessageFrame(self, length):
        self.mask, self.masked = os.urandom(frames.MASK_SIZE), 0
        self.queue(frames.header(self.frame_opcode, length, self.mask, False, 0))
        self.frame_opcode = CONTINUATION

    def sendMessageFrameData(self, payload):
        self.queue(frames.masked(payload.encode("latin-1"), self.mask, self.masked), is_alone=True)
        self.masked += len(payload)

    def endMessage(self):
        self.sendFrame(CONTINUATION)

    # How it ends.

    def sendClose(self, code=None, reason=""):
        self.sendCloseFrame(code, reason)

    def sendCloseFrame(self, code=None, reasonUtf8="", isReply=False):
        if self.state is not State.OPEN:
            return
        bytes_of_code = b"" if code is None else struct.pack("!H", code)
        self.sendFrame(CLOSE, bytes_of_code.decode("latin-1") + reasonUtf8)
        self.state = State.CLOSING
        self.localCloseReason = reasonUtf8
        if not isReply:
            self.closedByMe = True
            self.after(CLOSE_LIMIT * self.patience, self.drop)

    def fail(self):
        """Ends a connection that the server should have ended."""
        self.failedByMe = True
        if self.state is State.OPEN:
            self.sendCloseFrame(1001)
        else:
            self.drop()

    def drop(self):
        self.droppedByMe = True
        self.state = State.CLOSED
        self.writer.transport.abort()

    # Time.

    def after(self, seconds, action):
        """Does `action`, unless the connection has ended by then."""

        async def wait():
            await asyncio.sleep(seconds)
            if self.state is not State.CLOSED:
                action()

        self.background.append(self.tasks.create_task(wait()))

    def killAfter(self, seconds):
        self.after(seconds * self.patience, self.fail)

    def closeAfter(self, seconds):
        self.after(seconds * self.patience, self.sendClose)

    def continueLater(self, seconds, action, _tag=None):
        self.after(seconds, action)

    def enableWirelog(self, _):
        """Nothing is logged."""
