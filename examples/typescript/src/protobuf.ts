/** The wire format of protobuf: keys, varints and lengths. What the fields mean is said elsewhere. */

import { EnvelopeError } from './errors.js';

/** How a value is written: the low three bits of a key. */
export const WireType = { Varint: 0, Fixed64: 1, Bytes: 2, GroupStart: 3, GroupEnd: 4, Fixed32: 5 } as const;

/** How deep groups may be nested: as deep as the relay lets them. */
const MAX_DEPTH = 100;

/** A key: which field comes next, how it is written, and where the key begins. */
export interface Key {
  readonly at: number;
  readonly field: number;
  readonly wireType: number;
}

/** Reads a message from its first byte to its last. Every method throws `EnvelopeError`. */
export class Reader {
  readonly #bytes: Uint8Array;
  /** Where `#bytes` begin within the whole, for error messages. */
  readonly #offset: number;
  #next = 0;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  /** Where the next byte is. */
  get at(): number {
    return this.#offset + this.#next;
  }

  /** Whether nothing is left. */
  get done(): boolean {
    return this.#next === this.#bytes.length;
  }

  key(): Key {
    const { at } = this;
    const key = this.varint();
    if (key > 0xffff_ffffn) throw new EnvelopeError(at, `${key} is no key of a field, which has at most 32 bits`);
    const field = Number(key >> 3n);
    const wireType = Number(key & 7n);
    if (wireType > WireType.Fixed32) {
      throw new EnvelopeError(at, `field ${field} has wire type ${wireType}, expected 0 to 5`);
    }
    if (field === 0) throw new EnvelopeError(at, 'a field has number 0, expected 1 or more');
    return { at, field, wireType };
  }

  varint(): bigint {
    const { at } = this;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.#bytes[this.#next];
      if (byte === undefined) throw new EnvelopeError(at, 'the message ends within the varint that begins here');
      // The tenth byte has room for the 64th bit only.
      if (shift === 63n && byte > 1) {
        throw new EnvelopeError(at, 'the varint that begins here does not fit 64 bits');
      }
      this.#next += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  /** The bytes of a field that has a length. They are a view, no copy. */
  bytes(key: Key): Uint8Array {
    expectWireType(key, WireType.Bytes);
    return this.#take(this.varint());
  }

  text(key: Key): string {
    const value = this.bytes(key);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
    } catch {
      throw new EnvelopeError(this.at - value.length, `the text of field ${key.field} is not UTF-8`);
    }
  }

  number(key: Key): bigint {
    expectWireType(key, WireType.Varint);
    return this.varint();
  }

  /** Passes over the value of a field that nobody here knows. */
  skip(key: Key): void {
    const groups: number[] = [];
    for (let next = key; ; next = this.key()) {
      if (next.wireType === WireType.GroupStart) {
        if (groups.length >= MAX_DEPTH) throw new EnvelopeError(next.at, `more than ${MAX_DEPTH} groups are nested`);
        groups.push(next.field);
      } else if (next.wireType === WireType.GroupEnd) {
        if (groups.pop() !== next.field) {
          throw new EnvelopeError(next.at, `group ${next.field} ends here, but it is not the one that is open`);
        }
      } else {
        this.#skipValue(next);
      }
      if (groups.length === 0) return;
      if (this.done) throw new EnvelopeError(this.at, `the message ends within group ${groups.at(-1)}`);
    }
  }

  #skipValue(key: Key): void {
    if (key.wireType === WireType.Varint) this.varint();
    else if (key.wireType === WireType.Fixed64) this.#take(8n);
    else if (key.wireType === WireType.Fixed32) this.#take(4n);
    else this.bytes(key);
  }

  #take(length: bigint): Uint8Array {
    const left = this.#bytes.length - this.#next;
    if (length > BigInt(left)) {
      throw new EnvelopeError(this.at, `a value of ${length} bytes begins here, but the message has only ${left} more`);
    }
    this.#next += Number(length);
    return this.#bytes.subarray(this.#next - Number(length), this.#next);
  }
}

function expectWireType({ at, field, wireType }: Key, expected: number): void {
  if (wireType !== expected) {
    throw new EnvelopeError(at, `field ${field} has wire type ${wireType}, expected ${expected}`);
  }
}

/** Writes a message. As proto3 has it, zeros and what is empty are left out. */
export class Writer {
  readonly #parts: Uint8Array[] = [];

  number(field: number, value: bigint): void {
    if (value !== 0n) this.#parts.push(varint(BigInt(field << 3)), varint(BigInt.asUintN(64, value)));
  }

  bytes(field: number, value: Uint8Array): void {
    if (value.length > 0) this.message(field, value);
  }

  text(field: number, value: string): void {
    this.bytes(field, new TextEncoder().encode(value));
  }

  /** A message within the message: it is written even when it is empty. */
  message(field: number, value: Uint8Array): void {
    this.#parts.push(varint(BigInt((field << 3) | WireType.Bytes)), varint(BigInt(value.length)), value);
  }

  finish(): Uint8Array {
    return concat(this.#parts);
  }
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Uint8Array.from([...bytes, Number(rest)]);
}

/** The parts, one after the other, in bytes of their own. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
