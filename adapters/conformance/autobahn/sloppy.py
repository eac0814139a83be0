"""A WebSocket echo that checks nothing: what a conformance suite has to notice."""

import asyncio
import struct

from frames import BINARY, CLOSE, LAST, MASK_SIZE, PING, PONG, masked
from peer import accept

# Where a message is longer, its last byte is not echoed as it came.
LONGEST_HONEST = 1 << 17


async def serve(reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Accept: {accept(key)}\r\n\r\n".encode()
        )
        await echo(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(reader, writer):
    parts, message_opcode, opcode = [], BINARY, 0
    while opcode != CLOSE:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await reader.readexactly(8))
        mask = await reader.readexactly(MASK_SIZE)
        payload = masked(await reader.readexactly(length), mask)
        opcode = first & 0x0F
        if opcode == PING:
            write(writer, PONG, payload)
        elif opcode >= CLOSE:
            write(writer, opcode, payload)
        else:
            message_opcode = opcode or message_opcode
            parts.append(payload)
            if first & LAST:
                write(writer, message_opcode, b"".join(parts))
                parts = []
        await writer.drain()


def write(writer, opcode, payload):
    length = len(payload)
    if length > LONGEST_HONEST:
        payload = payload[:-1] + b"?"
    if length < 126:
        size = struct.pack("!B", length)
    elif length < 1 << 16:
        size = struct.pack("!BH", 126, length)
    else:
        size = struct.pack("!BQ", 127, length)
    writer.write(bytes([LAST | opcode]) + size + payload)
