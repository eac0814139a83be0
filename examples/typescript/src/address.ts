/** Addresses: `pinch:<name>@<host>`, where in challenge mode the name is a key. */

import { sha256 } from '@noble/hashes/sha2.js';

import { decodeBase58, encodeBase58 } from './base58.js';
import { AddressError } from './errors.js';
import { concat } from './protobuf.js';

const SCHEME = 'pinch:';
const MAX_LENGTH = 256;
const KEY_LENGTH = 32;
const CHECKSUM_LENGTH = 4;
/** The longest name that a key has. */
const MAX_KEY_NAME = 50;

/** The two sides of an address. Hosts compare without regard to case: this one is in lower case. */
export interface AddressParts {
  readonly name: string;
  readonly host: string;
}

/** The address, at the relay `host`, of whoever holds the key to this public key of 32 bytes. */
export function addressOf(publicKey: Uint8Array, host: string): string {
  return `${SCHEME}${encodeBase58(concat([publicKey, checksum(publicKey)]))}@${host.toLowerCase()}`;
}

/**
 * An address with its host in lower case, as relays keep it: two texts are one address if this is the same of both.
 *
 * @throws AddressError if the text is none.
 */
export function normalizeAddress(text: string): string {
  const { name, host } = parseAddress(text);
  return `${SCHEME}${name}@${host}`;
}

/** Whether two texts are one address. */
export function isSameAddress(one: string, other: string): boolean {
  try {
    return normalizeAddress(one) === normalizeAddress(other);
  } catch {
    return false;
  }
}

/**
 * Takes an address apart. The last `@` is the one that counts.
 *
 * @throws AddressError if the text is none.
 */
export function parseAddress(text: string): AddressParts {
  const fail = (why: string): never => {
    throw new AddressError(text, why);
  };
  if (text.length > MAX_LENGTH) fail(`has ${text.length} characters, more than ${MAX_LENGTH}`);
  const strange = text.search(/[^!-~]/);
  if (strange >= 0) fail(`has a character at ${strange} that is not printable ASCII, or a space`);
  if (!text.startsWith(SCHEME)) fail(`does not begin with ${SCHEME}`);
  const at = text.lastIndexOf('@');
  if (at < 0) fail('has no @ in front of a host');
  const name = text.slice(SCHEME.length, at);
  const host = text.slice(at + 1).toLowerCase();
  if (name === '') fail('has no name');
  if (host === '') fail('has no host');
  return { name, host };
}

/**
 * The public key that the name of an address is.
 *
 * @throws AddressError if the text is no address, or its name no key, as every name may be in open mode.
 */
export function publicKeyOf(address: string): Uint8Array {
  const { name } = parseAddress(address);
  const bytes = name.length > MAX_KEY_NAME ? { wrongAt: MAX_KEY_NAME } : decodeBase58(name);
  if ('wrongAt' in bytes)
    throw new AddressError(address, `has a name that is no key from character ${bytes.wrongAt} on`);
  if (bytes.length !== KEY_LENGTH + CHECKSUM_LENGTH) {
    throw new AddressError(address, `has a name of ${bytes.length} bytes, where a key and its checksum have 36`);
  }
  const key = bytes.slice(0, KEY_LENGTH);
  const expected = checksum(key);
  if (!bytes.subarray(KEY_LENGTH).every((byte, at) => byte === expected[at])) {
    throw new AddressError(address, 'has a name with a wrong checksum: a character was mistyped');
  }
  return key;
}

function checksum(publicKey: Uint8Array): Uint8Array {
  return sha256(publicKey).subarray(0, CHECKSUM_LENGTH);
}
