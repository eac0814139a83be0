"""Frames of WebSocket (RFC 6455, section 5): written as a client may write them, right or wrong,
and read as a strict client reads them."""

import os
import struct
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

LAST, MASKED = 0x80, 0x80
MASK_SIZE = 4


class Violation(Exception):
    """The server breaks the protocol."""


class Frame(NamedTuple):
    opcode: int
    is_last: bool
    payload: bytes

    @property
    def is_control(self):
        return self.opcode >= CLOSE


def header(opcode, length, mask, is_last, reserved):
    first = (LAST if is_last else 0) | reserved << 4 | opcode
    if length < 126:
        return struct.pack("!BB", first, MASKED | length) + mask
    if length < 1 << 16:
        return struct.pack("!BBH", first, MASKED | 126, length) + mask
    return struct.pack("!BBQ", first, MASKED | 127, length) + mask


def masked(payload, mask, offset=0):
    """Masks `payload`, before which `offset` bytes of its frame were masked."""
    length = len(payload)
    turned = mask[offset % MASK_SIZE :] + mask[: offset % MASK_SIZE]
    key = (turned * (length // MASK_SIZE + 1))[:length]
    # Integers of any length make this fast.
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


def frame(opcode, payload, is_last=True, reserved=0):
    mask = os.urandom(MASK_SIZE)
    return header(opcode, len(payload), mask, is_last, reserved) + masked(payload, mask)


async def read(stream):
    """Reads the next frame of a server."""
    first, second = await stream.readexactly(2)
    opcode, is_last = first & 0x0F, bool(first & LAST)
    if first & 0x70:
        raise Violation("reserved bits are set")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise Violation(f"opcode {opcode} is reserved")
    if second & MASKED:
        raise Violation("a server does not mask")
    length = second
    if length == 126:
        (length,) = struct.unpack("!H", await stream.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await stream.readexactly(8))
    if opcode >= CLOSE and not (is_last and length < 126):
        raise Violation("a control frame is short and whole")
    return Frame(opcode, is_last, await stream.readexactly(length))


def close_reason(payload):
    """Returns the code of a close frame, or None, and its text."""
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise Violation("half a close code")
    (code,) = struct.unpack("!H", payload[:2])
    if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006) or 3000 <= code <= 4999):
        raise Violation(f"close code {code} is reserved")
    return code, text(payload[2:])


def text(payload):
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise Violation(f"text is not UTF-8: {error}") from error
