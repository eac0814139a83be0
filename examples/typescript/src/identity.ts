/** Keys: Ed25519 by WebCrypto, and by `@noble/ed25519` where WebCrypto does not have it. */

import { ConfigError } from './errors.js';
import { concat } from './protobuf.js';

/** Whoever holds a key: a seed in memory, or something that never gives it away. */
export interface Signer {
  /** The Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The Ed25519 signature of `message`, 64 bytes. */
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** Who a client is, and thereby how it joins. */
export type Identity =
  | {
      /** At a relay that asks for a proof. */
      readonly mode: 'challenge';
      readonly signer: Signer;
      /** The public host of the relay, as its operator set it: nothing is signed for another one. */
      readonly host: string;
    }
  | {
      /** At a relay that believes whatever a client calls itself. */
      readonly mode: 'open';
      /** This client's address, `pinch:<name>@<host>`. */
      readonly address: string;
    };

const SEED_LENGTH = 32;
/** What stands in front of the seed in PKCS #8. */
const PKCS8 = Uint8Array.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);

/** A new seed: keep it secret, and keep it, because the address depends on it. */
export function generateSeed(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(SEED_LENGTH));
}

/**
 * The key of a seed of 32 bytes, by WebCrypto if it has Ed25519, else by `@noble/ed25519`.
 *
 * @throws ConfigError if the seed has another length.
 */
export async function signerFromSeed(seed: Uint8Array): Promise<Signer> {
  checkSeed(seed);
  try {
    return await webCryptoSigner(seed);
  } catch {
    // An older engine, or a page that is no secure context: there is no `crypto.subtle`.
    return nobleSigner(seed);
  }
}

/** The key of a seed, by WebCrypto; fails where that does not have Ed25519. */
export async function webCryptoSigner(seed: Uint8Array): Promise<Signer> {
  checkSeed(seed);
  const pkcs8 = new Uint8Array(concat([PKCS8, seed]));
  const extractable = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign']);
  const { x } = await crypto.subtle.exportKey('jwk', extractable);
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', false, ['sign']);
  const base64 = (x ?? '').replaceAll('-', '+').replaceAll('_', '/');
  return {
    publicKey: Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)),
    sign: async (message) => new Uint8Array(await crypto.subtle.sign('Ed25519', key, new Uint8Array(message))),
  };
}

/** The key of a seed, by `@noble/ed25519`, which is loaded only now. */
export async function nobleSigner(seed: Uint8Array): Promise<Signer> {
  checkSeed(seed);
  const [ed25519, { sha512 }] = await Promise.all([import('@noble/ed25519'), import('@noble/hashes/sha2.js')]);
  ed25519.hashes.sha512 = sha512;
  const own = seed.slice();
  return {
    publicKey: ed25519.getPublicKey(own),
    sign: async (message) => ed25519.sign(message, own),
  };
}

function checkSeed(seed: Uint8Array): void {
  if (seed.length !== SEED_LENGTH) throw new ConfigError('seed', `${seed.length} bytes`, `${SEED_LENGTH} bytes`);
}
