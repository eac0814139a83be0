// Envelopes and addresses: the vectors of the protocol, every way in which bytes are no envelope.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  AddressError,
  type Envelope,
  EnvelopeError,
  MessageType,
  type Payload,
  addressOf,
  decodeEnvelope,
  encodeEnvelope,
  isSameAddress,
  normalizeAddress,
  parseAddress,
  payloadOf,
  publicKeyOf,
} from 'pinch-relay-client';

import { decodeBase58, encodeBase58 } from '../../src/base58.js';
import { hex, unhex } from '../support/inbox.js';
import { HOST } from '../support/relay.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const BARE: Envelope = {
  version: 0,
  fromAddress: '',
  toAddress: '',
  type: 0,
  messageId: new Uint8Array(),
  timestamp: 0n,
};

/** Each payload, the key of its field, and its bytes. */
const PAYLOADS: readonly [Payload, string, string][] = [
  [
    { kind: 'encrypted', nonce: bytes('n'), ciphertext: bytes('c'), senderPublicKey: bytes('k') },
    '52',
    '0a016e 120163 1a016b',
  ],
  [{ kind: 'handshake', version: 1, signingKey: bytes('s'), encryptionKey: bytes('e') }, '5a', '0801 120173 1a0165'],
  [{ kind: 'heartbeat', timestamp: -1n }, '62', '08ffffffffffffffffff01'],
  [
    { kind: 'authChallenge', version: 1, nonce: bytes('n'), issuedAtMs: 2n, expiresAtMs: 3n, relayHost: 'h' },
    '6a',
    '0801 12016e 1802 2003 2a0168',
  ],
  [
    { kind: 'authResponse', version: 1, publicKey: bytes('k'), signature: bytes('s'), nonce: bytes('n') },
    '72',
    '0801 12016b 1a0173 22016e',
  ],
  [{ kind: 'authResult', success: true, errorMessage: 'e', assignedAddress: 'a' }, '7a', '0801 120165 1a0161'],
  [
    {
      kind: 'connectionRequest',
      fromAddress: 'f',
      toAddress: 't',
      message: 'm',
      senderPublicKey: bytes('k'),
      expiresAt: 5n,
    },
    '8201',
    '0a0166 120174 1a016d 22016b 2805',
  ],
  [
    {
      kind: 'connectionResponse',
      fromAddress: 'f',
      toAddress: 't',
      accepted: true,
      responderPublicKey: bytes('k'),
    },
    '8a01',
    '0a0166 120174 1801 22016b',
  ],
  [{ kind: 'connectionRevoke', fromAddress: 'f', toAddress: 't' }, '9201', '0a0166 120174'],
  [{ kind: 'blockNotification', blockerAddress: 'b', blockedAddress: 'd' }, '9a01', '0a0162 120164'],
  [{ kind: 'unblockNotification', unblockerAddress: 'u', unblockedAddress: 'd' }, 'a201', '0a0175 120164'],
  [
    {
      kind: 'deliveryConfirm',
      messageId: bytes('i'),
      signature: bytes('s'),
      timestamp: 3n,
      state: 't',
      wasStored: true,
    },
    'aa01',
    '0a0169 120173 1803 220174 2801',
  ],
  [{ kind: 'queueStatus', pendingCount: -1 }, 'b201', '08ffffffffffffffffff01'],
  [{ kind: 'queueFull', recipientAddress: 'r', reason: 'w' }, 'ba01', '0a0172 120177'],
  [{ kind: 'rateLimited', retryAfterMs: 300n, reason: 'w' }, 'c201', '08ac02 120177'],
];

test('every payload has the bytes that the protocol gives it', () => {
  for (const [payload, key, content] of PAYLOADS) {
    const inner = unhex(content);
    const expected = key + Buffer.from([inner.length]).toString('hex') + hex(inner);
    assert.equal(hex(encodeEnvelope({ ...BARE, payload })), expected, payload.kind);
    assert.deepEqual(decodeEnvelope(unhex(expected)), { ...BARE, payload });
    assert.deepEqual(payloadOf(decodeEnvelope(unhex(expected)), payload.kind), payload);
  }
});

test('an envelope has the bytes that the protocol gives it', () => {
  const envelope: Envelope = {
    version: 1,
    fromAddress: 'pinch:ä@h',
    toAddress: 't',
    type: MessageType.Message,
    messageId: Uint8Array.of(0, 255),
    timestamp: 1_700_000_000_000n,
    payload: {
      kind: 'encrypted',
      nonce: bytes('n'),
      ciphertext: new Uint8Array(),
      senderPublicKey: new Uint8Array(),
    },
  };
  const encoded = '0801 120a 70696e63683ac3a44068 1a0174 2004 2a0200ff 3080d095ffbc31 5203 0a016e';
  assert.equal(hex(encodeEnvelope(envelope)), encoded.replaceAll(' ', ''));
  assert.deepEqual(decodeEnvelope(unhex(encoded)), envelope);
});

test('what is missing is empty, the last of a field counts, and what is unknown is passed over', () => {
  assert.deepEqual(decodeEnvelope(new Uint8Array()), BARE);
  // Unknown fields of every wire type, groups within groups too, around a version that is told twice.
  const unknown = ['9a0603616263', '980601', '9906 0102030405060708', '9d06 01020304', '9b06 a306 980601 a406 9c06'];
  const decoded = decodeEnvelope(unhex(`0801${unknown.join('')}0802 2063`));
  assert.deepEqual(decoded, { ...BARE, version: 2, type: 99 });
  // One payload in two parts, and another one that takes its place.
  const parted = decodeEnvelope(unhex('5203 0a016e 5203 120163'));
  assert.deepEqual(payloadOf(parted, 'encrypted')?.nonce, bytes('n'));
  assert.deepEqual(payloadOf(parted, 'encrypted')?.ciphertext, bytes('c'));
  assert.equal(decodeEnvelope(unhex('5203 0a016e 6200')).payload?.kind, 'heartbeat');
});

test('numbers are those of 32 and 64 bits', () => {
  for (const timestamp of [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]) {
    assert.equal(decodeEnvelope(encodeEnvelope({ ...BARE, timestamp })).timestamp, timestamp);
  }
  for (const type of [0, 127, 128, 2 ** 31 - 1, -1, -(2 ** 31)]) {
    assert.equal(decodeEnvelope(encodeEnvelope({ ...BARE, type })).type, type);
  }
  assert.equal(decodeEnvelope(unhex('08ffffffff1f')).version, 2 ** 32 - 1);
});

test('what is no envelope is told by the byte that is wrong', () => {
  const cases: readonly [string, number, RegExp][] = [
    ['80', 0, /ends within the varint/],
    ['08ffffffffffffffffff02', 1, /does not fit 64 bits/],
    ['0801 127f', 4, /127 bytes begins here, but the message has only 0 more/],
    ['0801 12ffffffffffffffffff01', 13, /18446744073709551615 bytes/],
    ['8080808010', 0, /no key of a field/],
    ['0f', 0, /wire type 7, expected 0 to 5/],
    ['00', 0, /number 0/],
    ['0a00', 0, /field 1 has wire type 2, expected 0/],
    ['1001', 0, /field 2 has wire type 0, expected 2/],
    ['5001', 0, /field 10 has wire type 0, expected 2/],
    ['1202 c328', 2, /not UTF-8/],
    ['9b06 980601', 5, /ends within group 99/],
    ['9c06', 0, /not the one that is open/],
    ['9b06 a406', 2, /not the one that is open/],
    ['9b06'.repeat(101), 200, /groups are nested/],
    // Within a payload, counted from the beginning of the envelope all the same.
    ['0801 5202 0a7f', 6, /127 bytes/],
    ['5202 0801', 2, /field 1 has wire type 0/],
  ];
  for (const [encoded, at, why] of cases) {
    assert.throws(
      () => decodeEnvelope(unhex(encoded)),
      (error) => {
        assert.ok(error instanceof EnvelopeError, String(error));
        assert.equal(error.at, at, `${encoded}: ${error.message}`);
        assert.match(error.message, why);
        return true;
      },
    );
  }
});

test('whatever bytes come, they are an envelope or an EnvelopeError', () => {
  let state = 1;
  const random = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 16;
  for (let round = 0; round < 5000; round += 1) {
    const noise = Uint8Array.from({ length: random() % 24 }, () => random() & 0xff);
    try {
      const envelope = decodeEnvelope(noise);
      assert.deepEqual(decodeEnvelope(encodeEnvelope(envelope)), envelope);
    } catch (error) {
      assert.ok(error instanceof EnvelopeError, `${hex(noise)}: ${String(error)}`);
    }
  }
});

test('keys have the addresses of the protocol', () => {
  const vectors: readonly [string, string][] = [
    [
      '4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29',
      'anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn',
    ],
    [
      'e734ea6c2b6257de72355e472aa05a4c487e6b463c029ed306df2f01b5636b58',
      '2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz',
    ],
    [
      'ff57575dc7af8bfc4d0837cc1ce2017b686a88145dc5579a958e3462fe9a908e',
      '2wTMAXNcBzkfwvmYVyWVNpLkMdTCzdmYrAZkREHx8EVaL6L3ur',
    ],
  ];
  for (const [key, name] of vectors) {
    assert.equal(addressOf(unhex(key), HOST), `pinch:${name}@${HOST}`);
    assert.equal(hex(publicKeyOf(`pinch:${name}@${HOST}`)), key);
  }
  assert.equal(hex(publicKeyOf(addressOf(new Uint8Array(32), 'h'))), '00'.repeat(32));
});

test('Base58 keeps zeros in front', () => {
  for (const [encoded, text] of [
    ['', ''],
    ['00', '1'],
    ['0000ff', '115Q'],
    ['61', '2g'],
    ['516b6fcd0f', 'ABnLTmg'],
  ] as const) {
    assert.equal(encodeBase58(unhex(encoded)), text);
    assert.deepEqual(decodeBase58(text), unhex(encoded));
  }
  assert.deepEqual(decodeBase58('1I1'), { wrongAt: 1 });
});

test('what is no address is told with the reason', () => {
  assert.deepEqual(parseAddress('pinch:alice@home@h'), { name: 'alice@home', host: 'h' });
  assert.equal(normalizeAddress('pinch:Alice@Home@LocalHost'), 'pinch:Alice@Home@localhost');
  assert.ok(isSameAddress('pinch:Alice@LocalHost', 'pinch:Alice@LOCALHOST'));
  assert.ok(!isSameAddress('pinch:Alice@localhost', 'pinch:alice@localhost'));
  assert.ok(!isSameAddress('nobody', 'nobody'));
  const cases: readonly [string, RegExp][] = [
    ['', /does not begin with pinch:/],
    ['pinch:alice', /no @/],
    ['pinch:@h', /no name/],
    ['pinch:alice@', /no host/],
    ['pinch:al ice@h', /character at 8/],
    ['pinch:älice@h', /character at 6/],
    [`pinch:a@${'h'.repeat(249)}`, /257 characters, more than 256/],
  ];
  for (const [text, why] of cases) {
    assert.throws(
      () => parseAddress(text),
      (error) => error instanceof AddressError && why.test(error.message),
      text,
    );
  }
  const noKeys: readonly [string, RegExp][] = [
    ['alice', /no key from character 1/],
    ['2g', /a name of 1 bytes/],
    ['1'.repeat(51), /no key from character 50/],
    ['2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Ny', /wrong checksum/],
  ];
  for (const [name, why] of noKeys) assert.throws(() => publicKeyOf(`pinch:${name}@h`), why, name);
});
