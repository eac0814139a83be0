"""An agent on Python's `websockets`, led by the tests.

It takes a command per line on stdin and gives an event per line on stdout, both in JSON. The end of
stdin is its end.
"""

import asyncio
import contextlib
import http.client
import json
import os
import sys
from urllib.parse import urlencode, urlsplit

from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from envelope import decode, encode

# The longest command, in bytes: a message beyond the relay's limit, in hex.
LINE_LIMIT = 1 << 20

# How long an HTTP request may take, in seconds.
HTTP_TIMEOUT = 20

# Types of messages.
MESSAGE = 4
DELIVERY_CONFIRM = 5


def emit(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


class Connection(ClientConnection):
    """Tells of the pings that the library answers."""

    def process_event(self, event):
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            emit("ping")
        super().process_event(event)


def answer(message, seed, host, forge):
    """Answers a challenge (protocol section 3) as a client should: after it has looked at it."""
    challenge = message["auth_challenge"]
    nonce = bytes.fromhex(challenge["nonce"])
    relay_host = challenge["relay_host"]
    if challenge["version"] != 1 or len(nonce) != 32 or relay_host.lower() != host:
        raise ValueError(f"not a challenge of {host}: {challenge}")
    key = SigningKey(bytes.fromhex(seed))
    signature = bytearray(key.sign(b"\0".join([b"pinch-auth-v1", relay_host.encode(), nonce])).signature)
    if forge:
        signature[0] ^= 1
    response = {
        "version": 1,
        "public_key": bytes(key.verify_key).hex(),
        "signature": signature.hex(),
        "nonce": challenge["nonce"],
    }
    return encode({"version": 1, "type": 3, "auth_response": response})


def confirmation(message):
    """Confirms that a message was delivered. The relay does not look into it, so it has no signature."""
    confirm = {"message_id": message["message_id"], "state": "delivered", "was_stored": 1}
    return encode(
        {
            "version": 1,
            "from_address": message["to_address"],
            "to_address": message["from_address"],
            "type": DELIVERY_CONFIRM,
            "delivery_confirm": confirm,
        }
    )


def fetch(url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=HTTP_TIMEOUT)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    return response.status, response.read().decode()


class Agent:
    """Has a method for each command."""

    def __init__(self, tasks):
        self.tasks = tasks
        self.socket = None

    async def join(self, url, address=None, origin=None, receive=None, early=False, **rest):
        """Joins. Here, `early` changes nothing: what comes waits until it is asked for."""
        query = {"address": address, "receive": receive}
        query = {name: value for name, value in query.items() if value is not None}
        if query:
            url = f"{url}?{urlencode(query)}"
        try:
            self.socket = await connect(url, origin=origin, proxy=None, create_connection=Connection)
        except InvalidStatus as rejection:
            emit("rejected", status=rejection.response.status_code)
            return
        self.tasks.create_task(self.live(address, **rest))

    async def live(self, address, seed=None, host=None, forge=False, confirm=False, close_after=None):
        """Takes what comes. With `confirm`, each MESSAGE is confirmed at once. With `close_after`, it
        closes after so many messages, or, if it is 0, after the join; what still comes is taken."""
        left = close_after
        try:
            if seed is not None:
                await self.socket.send(answer(decode(await self.socket.recv()), seed, host, forge))
                result = decode(await self.socket.recv())["auth_result"]
                address = result.get("assigned_address")
                if not result.get("success"):
                    emit("refused", reason=result["error_message"])
            if address is not None:
                emit("joined", address=address)
            if left == 0:
                await self.socket.close(1000)
            while True:
                message = await self.socket.recv(decode=False)
                envelope = decode(message)
                emit("envelope", hex=message.hex(), envelope=envelope)
                if envelope["type"] != MESSAGE:
                    continue
                if confirm:
                    await self.socket.send(confirmation(envelope))
                if left is not None:
                    left -= 1
                    if left == 0:
                        await self.socket.close(1000)
        except ConnectionClosed as closed:
            frame = closed.rcvd
            emit("closed", code=frame.code if frame else 1006, reason=frame.reason if frame else "")

    async def send(self, envelope, unknown=""):
        """Sends an envelope, with the bytes `unknown` behind its known fields."""
        message = encode(envelope) + bytes.fromhex(unknown)
        emit("sent", hex=message.hex())
        await self.socket.send(message)

    async def binary(self, hex):
        # The relay may close while it is being sent: the event tells.
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(bytes.fromhex(hex))

    async def text(self, text):
        await self.socket.send(text)

    async def raw(self, hex):
        """Writes bytes that are no frame, or a wrong one, past the library."""
        self.socket.transport.write(bytes.fromhex(hex))

    async def close(self, code, reason):
        await self.socket.close(code, reason)

    async def get(self, url):
        status, body = await asyncio.to_thread(fetch, url)
        emit("response", status=status, body=body)


async def main():
    commands = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        agent = Agent(tasks)
        while line := await commands.readline():
            command = json.loads(line)
            await getattr(agent, command.pop("do"))(**command)
        os._exit(0)


asyncio.run(main())
