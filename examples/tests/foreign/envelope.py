"""The messages of protocol section 2 that the tests look into, in protobuf by hand.

Nothing here comes from the relay's own code. In JSON, bytes are hex.
"""


def _fields(*names):
    return {number: tuple(field.split()) for number, field in enumerate(names, 1)}


_PAYLOADS = {
    10: ("encrypted", _fields("nonce bytes", "ciphertext bytes", "sender_public_key bytes")),
    13: (
        "auth_challenge",
        _fields("version int", "nonce bytes", "issued_at_ms int", "expires_at_ms int", "relay_host string"),
    ),
    14: ("auth_response", _fields("version int", "public_key bytes", "signature bytes", "nonce bytes")),
    15: ("auth_result", _fields("success int", "error_message string", "assigned_address string")),
    21: (
        "delivery_confirm",
        _fields("message_id bytes", "signature bytes", "timestamp int", "state string", "was_stored int"),
    ),
    22: ("queue_status", _fields("pending_count int")),
    23: ("queue_full", _fields("recipient_address string", "reason string")),
    24: ("rate_limited", _fields("retry_after_ms int", "reason string")),
}

_ENVELOPE = _PAYLOADS | _fields(
    "version int", "from_address string", "to_address string", "type int", "message_id bytes", "timestamp int"
)


def _varint(value):
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode(message, schema=_ENVELOPE):
    """The bytes of a message; payloads come first, which is as good as any order."""
    encoded = bytearray()
    for number, (name, kind) in schema.items():
        value = message.get(name)
        if value is None:
            continue
        if kind == "int":
            encoded += _varint(number << 3) + _varint(value)
            continue
        if kind == "string":
            field = value.encode()
        elif kind == "bytes":
            field = bytes.fromhex(value)
        else:
            field = encode(value, kind)
        encoded += _varint(number << 3 | 2) + _varint(len(field)) + field
    return bytes(encoded)


def decode(encoded, schema=_ENVELOPE):
    """The fields of a message that the schema names."""
    message = {}
    at = 0

    def take(length):
        nonlocal at
        if at + length > len(encoded):
            raise ValueError("truncated protobuf")
        at += length
        return encoded[at - length : at]

    def number():
        value = shift = 0
        while True:
            (byte,) = take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - 2**64 if value >= 2**63 else value

    while at < len(encoded):
        tag = number()
        name, kind = schema.get(tag >> 3, (None, None))
        if tag & 7 == 0:
            value = number()
        elif tag & 7 == 2:
            value = take(number())
        else:
            raise ValueError(f"wire type {tag & 7}, which no message of the protocol has")
        if name is None:
            continue
        if kind == "int":
            message[name] = value
        elif kind == "string":
            message[name] = value.decode()
        elif kind == "bytes":
            message[name] = value.hex()
        else:
            message[name] = decode(value, kind)
    return message
