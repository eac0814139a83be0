// The messages of protocol section 2 that the tests look into, in protobuf by hand: nothing here
// comes from the relay's own code. In JSON, bytes are hex.

const fields = (...names) => Object.fromEntries(names.map((field, index) => [index + 1, field.split(' ')]));

const PAYLOADS = {
  10: ['encrypted', fields('nonce bytes', 'ciphertext bytes', 'sender_public_key bytes')],
  13: ['auth_challenge', fields('version int', 'nonce bytes', 'issued_at_ms int', 'expires_at_ms int', 'relay_host string')],
  14: ['auth_response', fields('version int', 'public_key bytes', 'signature bytes', 'nonce bytes')],
  15: ['auth_result', fields('success int', 'error_message string', 'assigned_address string')],
  16: ['connection_request', fields('from_address string', 'to_address string', 'message string', 'sender_public_key bytes', 'expires_at int')],
  17: ['connection_response', fields('from_address string', 'to_address string', 'accepted int', 'responder_public_key bytes')],
  18: ['connection_revoke', fields('from_address string', 'to_address string')],
  21: ['delivery_confirm', fields('message_id bytes', 'signature bytes', 'timestamp int', 'state string', 'was_stored int')],
  22: ['queue_status', fields('pending_count int')],
  23: ['queue_full', fields('recipient_address string', 'reason string')],
  24: ['rate_limited', fields('retry_after_ms int', 'reason string')],
};

const ENVELOPE = {
  ...fields('version int', 'from_address string', 'to_address string', 'type int', 'message_id bytes', 'timestamp int'),
  ...PAYLOADS,
};

function varint(value) {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes = [];
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}

export function encode(message, schema = ENVELOPE) {
  const parts = [];
  for (const [number, [name, kind]] of Object.entries(schema)) {
    const value = message[name];
    if (value === undefined) continue;
    if (kind === 'int') {
      parts.push(varint(number << 3), varint(value));
      continue;
    }
    let bytes;
    if (kind === 'string') bytes = Buffer.from(value, 'utf8');
    else if (kind === 'bytes') bytes = Buffer.from(value, 'hex');
    else bytes = encode(value, kind);
    parts.push(varint((number << 3) | 2), varint(bytes.length), bytes);
  }
  return Buffer.concat(parts);
}

export function decode(bytes, schema = ENVELOPE) {
  const message = {};
  let at = 0;
  const take = (length) => {
    if (at + length > bytes.length) throw new Error('truncated protobuf');
    at += length;
    return bytes.subarray(at - length, at);
  };
  const number = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const [byte] = take(1);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const [name, kind] = schema[tag >>> 3] ?? [];
    let value;
    if ((tag & 7) === 0) value = number();
    else if ((tag & 7) === 2) value = take(number());
    else throw new Error(`wire type ${tag & 7}, which no message of the protocol has`);
    if (name === undefined) continue;
    if (kind === 'int') message[name] = value;
    else if (kind === 'string') message[name] = value.toString('utf8');
    else if (kind === 'bytes') message[name] = value.toString('hex');
    else message[name] = decode(value, kind);
  }
  return message;
}
