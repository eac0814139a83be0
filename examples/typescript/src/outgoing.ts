/** Which envelopes a client sends: those that the relay would not close the connection for. */

import { isSameAddress } from './address.js';
import { type SealedEnvelope, VERSION, encodeEnvelope, parseEnvelope } from './envelope.js';
import { EnvelopeError, SendError } from './errors.js';
import { MessageType, type Payload, RELAY_ONLY } from './messages.js';

/** The largest envelope that relays take. */
export const MAX_ENVELOPE_BYTES = 65_536;

/** An envelope to be sent. What is left out is filled in. */
export interface OutgoingEnvelope {
  readonly toAddress: string;
  /** Default: `MessageType.Message`. */
  readonly type?: number;
  readonly payload?: Payload;
  /** Default: 16 random bytes. */
  readonly messageId?: Uint8Array;
  /** In Unix milliseconds. Default: now. */
  readonly timestamp?: bigint;
}

/**
 * The bytes of an envelope from `address`, in memory of their own.
 *
 * @throws SendError if the relay would not take them.
 */
export function toBytes(
  envelope: OutgoingEnvelope | Uint8Array,
  address: string,
): { readonly bytes: Uint8Array; readonly messageId: Uint8Array } {
  const bytes = envelope instanceof Uint8Array ? envelope.slice() : encode(envelope, address);
  if (bytes.length > MAX_ENVELOPE_BYTES) {
    throw new SendError({ kind: 'too-large', bytes: bytes.length, limit: MAX_ENVELOPE_BYTES });
  }
  const { fromAddress, type, messageId } = parse(bytes);
  if (!isSameAddress(fromAddress, address)) {
    throw new SendError({ kind: 'not-your-address', found: fromAddress, expected: address });
  }
  if (RELAY_ONLY.has(type)) throw new SendError({ kind: 'relay-only', type });
  return { bytes, messageId };
}

/** What no other envelope is called. */
export function randomId(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(16));
}

function encode(envelope: OutgoingEnvelope, fromAddress: string): Uint8Array {
  return encodeEnvelope({
    version: VERSION,
    fromAddress,
    toAddress: envelope.toAddress,
    type: envelope.type ?? MessageType.Message,
    messageId: envelope.messageId ?? randomId(),
    timestamp: envelope.timestamp ?? BigInt(Date.now()),
    ...(envelope.payload === undefined ? {} : { payload: envelope.payload }),
  });
}

function parse(bytes: Uint8Array): SealedEnvelope {
  try {
    return parseEnvelope(bytes);
  } catch (error) {
    throw error instanceof EnvelopeError ? new SendError({ kind: 'malformed', error }) : error;
  }
}
