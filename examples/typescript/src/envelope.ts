/** Envelopes to bytes and back. */

import {
  type KindTypes,
  PAYLOADS,
  type Payload,
  type PayloadKind,
  type PayloadOf,
  type PayloadSchema,
} from './messages.js';
import { Reader, Writer, concat } from './protobuf.js';

/** The version that this package writes. */
export const VERSION = 1;

/** What travels through a relay. */
export interface Envelope {
  readonly version: number;
  readonly fromAddress: string;
  readonly toAddress: string;
  /** One of `MessageType`, or a number that is not known here. */
  readonly type: number;
  /** What its sender calls it: refusals of the relay repeat it, if it has 64 bytes at most. */
  readonly messageId: Uint8Array;
  /** In Unix milliseconds. */
  readonly timestamp: bigint;
  readonly payload?: Payload;
}

/** An envelope whose payload has not been looked at, as a relay sees it. */
export interface SealedEnvelope extends Omit<Envelope, 'payload'> {
  readonly sealed?: { readonly kind: PayloadKind; readonly at: number; readonly bytes: Uint8Array };
}

const KIND_OF_FIELD = new Map<number, PayloadKind>(
  Object.entries(PAYLOADS).map(([kind, { field }]) => [field, kind as PayloadKind]),
);

/** The bytes of an envelope. */
export function encodeEnvelope(envelope: Envelope): Uint8Array {
  const writer = new Writer();
  writer.number(1, BigInt(envelope.version));
  writer.text(2, envelope.fromAddress);
  writer.text(3, envelope.toAddress);
  writer.number(4, BigInt(envelope.type));
  writer.bytes(5, envelope.messageId);
  writer.number(6, envelope.timestamp);
  if (envelope.payload !== undefined) {
    writer.message(PAYLOADS[envelope.payload.kind].field, encodePayload(envelope.payload));
  }
  return writer.finish();
}

/**
 * The envelope that `bytes` are. As everywhere in protobuf, a field that is missing is empty or
 * zero, of one that occurs more than once the last counts, and unknown ones are ignored.
 *
 * @throws EnvelopeError if they are none, or if the payload is broken. A relay looks at no payload,
 * so a broken one may come from whoever sent the envelope.
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  return openEnvelope(parseEnvelope(bytes));
}

/**
 * What a relay reads of an envelope: everything but the payload.
 *
 * @throws EnvelopeError if these bytes are none.
 */
export function parseEnvelope(bytes: Uint8Array): SealedEnvelope {
  let version = 0;
  let fromAddress = '';
  let toAddress = '';
  let type = 0;
  let messageId: Uint8Array = new Uint8Array();
  let timestamp = 0n;
  let sealed: SealedEnvelope['sealed'];
  const reader = new Reader(bytes);
  while (!reader.done) {
    const key = reader.key();
    if (key.field === 1) version = toScalar('uint32', reader.number(key));
    else if (key.field === 2) fromAddress = reader.text(key);
    else if (key.field === 3) toAddress = reader.text(key);
    else if (key.field === 4) type = toScalar('int32', reader.number(key));
    else if (key.field === 5) messageId = reader.bytes(key).slice();
    else if (key.field === 6) timestamp = toScalar('int64', reader.number(key));
    else {
      const kind = KIND_OF_FIELD.get(key.field);
      if (kind === undefined) {
        reader.skip(key);
        continue;
      }
      const part = reader.bytes(key);
      // The parts of one payload belong together; another payload takes its place.
      const whole = sealed?.kind === kind ? concat([sealed.bytes, part]) : part;
      sealed = { kind, at: reader.at - part.length, bytes: whole };
    }
  }
  const routing = { version, fromAddress, toAddress, type, messageId, timestamp };
  return sealed === undefined ? routing : { ...routing, sealed };
}

/**
 * The envelope with its payload.
 *
 * @throws EnvelopeError if the payload is broken.
 */
export function openEnvelope({ sealed, ...routing }: SealedEnvelope): Envelope {
  return sealed === undefined ? routing : { ...routing, payload: decodePayload(sealed) };
}

/** The payload of `envelope` if it is of this kind. */
export function payloadOf<Kind extends PayloadKind>(envelope: Envelope, kind: Kind): PayloadOf<Kind> | undefined {
  const { payload } = envelope;
  return payload !== undefined && isOfKind(payload, kind) ? payload : undefined;
}

function isOfKind<Kind extends PayloadKind>(payload: Payload, kind: Kind): payload is Payload & PayloadOf<Kind> {
  return payload.kind === kind;
}

function encodePayload(payload: Payload): Uint8Array {
  const schema: PayloadSchema = PAYLOADS[payload.kind];
  const values = payload as unknown as Readonly<Record<string, KindTypes[keyof KindTypes]>>;
  const writer = new Writer();
  for (const [name, [field]] of Object.entries(schema.fields)) {
    const value = values[name];
    if (value instanceof Uint8Array) writer.bytes(field, value);
    else if (typeof value === 'string') writer.text(field, value);
    else if (value !== undefined) writer.number(field, BigInt(value));
  }
  return writer.finish();
}

function decodePayload({ kind, at, bytes }: NonNullable<SealedEnvelope['sealed']>): Payload {
  const schema: PayloadSchema = PAYLOADS[kind];
  const fields = Object.entries(schema.fields);
  const values: Record<string, unknown> = { kind };
  for (const [name, [, fieldKind]] of fields) values[name] = EMPTY[fieldKind];
  const reader = new Reader(bytes, at);
  while (!reader.done) {
    const key = reader.key();
    const [name, [, fieldKind]] = fields.find(([, [field]]) => field === key.field) ?? [undefined, []];
    if (name === undefined || fieldKind === undefined) reader.skip(key);
    else if (fieldKind === 'bytes') values[name] = reader.bytes(key).slice();
    else if (fieldKind === 'string') values[name] = reader.text(key);
    else values[name] = toScalar(fieldKind, reader.number(key));
  }
  return values as unknown as Payload;
}

const EMPTY: KindTypes = { bool: false, uint32: 0, int32: 0, int64: 0n, string: '', bytes: new Uint8Array() };

const SCALARS = {
  bool: (value: bigint) => value !== 0n,
  uint32: (value: bigint) => Number(BigInt.asUintN(32, value)),
  int32: (value: bigint) => Number(BigInt.asIntN(32, value)),
  int64: (value: bigint) => BigInt.asIntN(64, value),
} as const;

/** A varint as the type that its field has: what does not fit is cut, as everywhere in protobuf. */
function toScalar<Kind extends keyof typeof SCALARS>(kind: Kind, value: bigint): ReturnType<(typeof SCALARS)[Kind]> {
  return SCALARS[kind](value) as ReturnType<(typeof SCALARS)[Kind]>;
}
