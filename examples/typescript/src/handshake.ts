/** A client's side of the handshake: what may be signed, and which verdict can be believed. */

import { addressOf, isSameAddress } from './address.js';
import { type Envelope, VERSION, encodeEnvelope, openEnvelope, parseEnvelope, payloadOf } from './envelope.js';
import { EnvelopeError, type LinkFault } from './errors.js';
import type { Identity } from './identity.js';
import { MessageType, type PayloadKind, type PayloadOf } from './messages.js';
import { concat } from './protobuf.js';

/** Who joins with a proof. */
export type KeyIdentity = Extract<Identity, { mode: 'challenge' }>;

const NONCE_LENGTH = 32;

/** What a signature in answer to a challenge is over. */
export function signedBytes(relayHost: string, nonce: Uint8Array): Uint8Array {
  return concat([new TextEncoder().encode(`pinch-auth-v1\0${relayHost}\0`), nonce]);
}

/** An AUTH_RESPONSE. */
export interface Answer {
  readonly response: Uint8Array;
  /** How long the challenge is valid. */
  readonly lifetimeMs: number;
}

/** The answer to a challenge, or what is wrong with the challenge: then nothing was signed. */
export async function answerChallenge(
  message: Uint8Array,
  { signer, host }: KeyIdentity,
): Promise<Answer | LinkFault> {
  const challenge = expectPayload(message, MessageType.AuthChallenge, 'authChallenge', 'AUTH_CHALLENGE');
  if (challenge.kind !== 'authChallenge') return challenge;
  const { version, nonce, relayHost } = challenge;
  if (version !== VERSION) return { kind: 'wrong-version', found: version };
  if (nonce.length !== NONCE_LENGTH) {
    return {
      kind: 'bad-challenge',
      detail: `has a nonce of ${nonce.length} bytes instead of ${NONCE_LENGTH}`,
    };
  }
  if (!isSameHost(relayHost, host)) return { kind: 'wrong-host', found: relayHost, expected: host };
  // Its times are those of the relay's clock, and it is the relay that enforces them.
  if (challenge.expiresAtMs <= challenge.issuedAtMs) {
    return { kind: 'bad-challenge', detail: 'had expired when it was issued' };
  }
  let signature: Uint8Array;
  try {
    signature = await signer.sign(signedBytes(relayHost, nonce));
  } catch (error) {
    return { kind: 'signer-failed', error };
  }
  const response = encodeEnvelope({
    version: VERSION,
    fromAddress: '',
    toAddress: '',
    type: MessageType.AuthResponse,
    messageId: new Uint8Array(),
    timestamp: BigInt(Date.now()),
    payload: { kind: 'authResponse', version: VERSION, publicKey: signer.publicKey, signature, nonce },
  });
  return { response, lifetimeMs: Number(challenge.expiresAtMs - challenge.issuedAtMs) };
}

/** The address that an AUTH_RESULT assigns, or why it does not. */
export function readResult(
  message: Uint8Array,
  { signer, host }: KeyIdentity,
): { readonly address: string } | LinkFault {
  const result = expectPayload(message, MessageType.AuthResult, 'authResult', 'AUTH_RESULT');
  if (result.kind !== 'authResult') return result;
  if (!result.success) return { kind: 'refused', reason: result.errorMessage };
  const address = result.assignedAddress;
  const expected = addressOf(signer.publicKey, host);
  return isSameAddress(address, expected) ? { address } : { kind: 'wrong-address', found: address, expected };
}

/** The payload of a message that has to be of this type. */
function expectPayload<Kind extends PayloadKind>(
  message: Uint8Array,
  type: number,
  kind: Kind,
  expected: string,
): PayloadOf<Kind> | LinkFault {
  let envelope: Envelope;
  try {
    envelope = openEnvelope(parseEnvelope(message));
  } catch (error) {
    if (error instanceof EnvelopeError) return { kind: 'malformed', error };
    throw error;
  }
  const payload = envelope.type === type ? payloadOf(envelope, kind) : undefined;
  return payload ?? { kind: 'unexpected-message', type: envelope.type, expected };
}

function isSameHost(found: string, expected: string): boolean {
  return found.toLowerCase() === expected.toLowerCase();
}
