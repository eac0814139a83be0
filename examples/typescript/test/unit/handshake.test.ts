// Keys and the handshake: signatures that another implementation made, and every challenge and
// verdict that is none.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  ConfigError,
  EnvelopeError,
  LinkError,
  type LinkFault,
  MessageType,
  type Payload,
  addressOf,
  decodeEnvelope,
  encodeEnvelope,
  generateSeed,
  nobleSigner,
  payloadOf,
  signerFromSeed,
  webCryptoSigner,
} from 'pinch-relay-client';

import { type Answer, type KeyIdentity, answerChallenge, readResult } from '../../src/handshake.js';
import { ALICE } from '../support/agents.js';
import { hex, unhex } from '../support/inbox.js';
import { HOST } from '../support/relay.js';

const NONCE = Uint8Array.from({ length: 32 }, (_, at) => at);

/** Seed, address, and signature over the challenge with `NONCE`. */
const VECTORS: readonly [string, string, string][] = [
  [
    '0000000000000000000000000000000000000000000000000000000000000001',
    'pinch:anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn@test.relay.example.com',
    '12313d8d2f500c201cba3d3c5118f658a7b16e693bc9614acec89d3169cd7116f3fe19705ed882982e5bc8a0003e2e052ae6a2e1a59bcd1bdcf1b6ad596c4c0f',
  ],
  [
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
    'pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com',
    '836f65d50bc32796d13631dbe7c7d93f0087c55a3ae20e7bf0e63dbac0aa480f338c80bc737a4bc4f0f1ecaea82eb794a147c2c4af3c4c7ae9d097fe4f9acd02',
  ],
  [
    'deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef',
    'pinch:2wTMAXNcBzkfwvmYVyWVNpLkMdTCzdmYrAZkREHx8EVaL6L3ur@test.relay.example.com',
    '9bdb8e98144f3caf6b7c7c59aa2321158689748147504045da8ddb07e846692ff7cdecba1942cfa93235cd92f2fa79b9276c56bf0a5c5bf26f7a648691870108',
  ],
];

const CHALLENGE = {
  kind: 'authChallenge',
  version: 1,
  nonce: NONCE,
  issuedAtMs: 1n,
  expiresAtMs: 2n,
  relayHost: HOST,
} as const;

function message(type: number, payload: Payload): Uint8Array {
  const empty = new Uint8Array();
  return encodeEnvelope({
    version: 1,
    fromAddress: '',
    toAddress: '',
    type,
    messageId: empty,
    timestamp: 0n,
    payload,
  });
}

const challenge = (changes: Partial<typeof CHALLENGE> | object = {}): Uint8Array =>
  message(MessageType.AuthChallenge, { ...CHALLENGE, ...changes });

async function alice(): Promise<KeyIdentity> {
  return { mode: 'challenge', signer: await signerFromSeed(ALICE.seed), host: HOST };
}

for (const [name, signerOf] of Object.entries({ webCryptoSigner, nobleSigner })) {
  test(`${name} signs challenges as other implementations do`, async () => {
    for (const [seed, address, signature] of VECTORS) {
      const signer = await signerOf(unhex(seed));
      assert.equal(addressOf(signer.publicKey, HOST), address);
      const answer = await answerChallenge(challenge(), { mode: 'challenge', signer, host: HOST });
      assert.ok('response' in answer);
      const envelope = decodeEnvelope(answer.response);
      assert.equal(envelope.type, MessageType.AuthResponse);
      const response = payloadOf(envelope, 'authResponse');
      assert.equal(hex(response?.signature ?? NONCE), signature);
      assert.deepEqual(response?.publicKey, signer.publicKey);
      assert.deepEqual(response?.nonce, NONCE);
      assert.equal(response?.version, 1);
    }
  });
}

test('a seed has 32 bytes', async () => {
  assert.equal(generateSeed().length, 32);
  assert.notDeepEqual(generateSeed(), generateSeed());
  await assert.rejects(signerFromSeed(new Uint8Array(31)), ConfigError);
});

test('a challenge that may not be signed is not', async () => {
  const unsigned: readonly [Uint8Array, LinkFault, permanent: boolean][] = [
    [challenge({ version: 2 }), { kind: 'wrong-version', found: 2 }, true],
    [
      challenge({ nonce: NONCE.slice(1) }),
      { kind: 'bad-challenge', detail: 'has a nonce of 31 bytes instead of 32' },
      false,
    ],
    [challenge({ relayHost: 'other' }), { kind: 'wrong-host', found: 'other', expected: HOST }, true],
    [challenge({ expiresAtMs: 1n }), { kind: 'bad-challenge', detail: 'had expired when it was issued' }, false],
    [
      message(MessageType.AuthResult, CHALLENGE),
      { kind: 'unexpected-message', type: MessageType.AuthResult, expected: 'AUTH_CHALLENGE' },
      false,
    ],
    [
      message(MessageType.AuthChallenge, { kind: 'heartbeat', timestamp: 0n }),
      { kind: 'unexpected-message', type: MessageType.AuthChallenge, expected: 'AUTH_CHALLENGE' },
      false,
    ],
  ];
  const identity = await alice();
  const sign = (): never => assert.fail('it was signed');
  for (const [bytes, fault, permanent] of unsigned) {
    const answer = await answerChallenge(bytes, { ...identity, signer: { ...identity.signer, sign } });
    assert.deepEqual(answer, fault);
    assert.equal(new LinkError(fault).permanent, permanent, fault.kind);
  }
  const answer = await answerChallenge(Uint8Array.of(0x80), identity);
  assert.ok('kind' in answer && answer.kind === 'malformed' && answer.error instanceof EnvelopeError);
});

test('the host of a challenge is signed as the relay writes it', async () => {
  const identity = await alice();
  const upper = await answerChallenge(challenge({ relayHost: HOST.toUpperCase() }), identity);
  const lower = await answerChallenge(challenge(), identity);
  assert.ok('response' in upper && 'response' in lower);
  const signature = ({ response: bytes }: Answer): Uint8Array | undefined =>
    payloadOf(decodeEnvelope(bytes), 'authResponse')?.signature;
  assert.notDeepEqual(signature(upper), signature(lower));
});

test('a signer that fails is told of', async () => {
  const { signer, ...identity } = await alice();
  const error = new Error('locked');
  const sign = (): Promise<never> => Promise.reject(error);
  const answer = await answerChallenge(challenge(), { ...identity, signer: { ...signer, sign } });
  assert.deepEqual(answer, { kind: 'signer-failed', error });
});

test('a verdict assigns this key an address, or says why not', async () => {
  const identity = await alice();
  const verdict = (changes: object): ReturnType<typeof readResult> => {
    const result = {
      kind: 'authResult',
      success: true,
      errorMessage: '',
      assignedAddress: ALICE.proven,
    } as const;
    return readResult(message(MessageType.AuthResult, { ...result, ...changes }), identity);
  };
  assert.deepEqual(verdict({}), { address: ALICE.proven });
  const shouted = ALICE.proven.replace(HOST, HOST.toUpperCase());
  assert.deepEqual(verdict({ assignedAddress: shouted }), { address: shouted });
  assert.deepEqual(verdict({ success: false, errorMessage: 'no' }), { kind: 'refused', reason: 'no' });
  for (const assignedAddress of ['', 'pinch:bob@test.relay.example.com', `${ALICE.proven}.org`]) {
    const fault = verdict({ assignedAddress });
    assert.deepEqual(fault, { kind: 'wrong-address', found: assignedAddress, expected: ALICE.proven });
  }
  const other = readResult(challenge(), identity);
  assert.deepEqual(other, {
    kind: 'unexpected-message',
    type: MessageType.AuthChallenge,
    expected: 'AUTH_RESULT',
  });
});
