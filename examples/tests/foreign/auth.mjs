// Proofs with an Ed25519 key (protocol section 3 and 7), with nothing but Node's own crypto.

import { createPrivateKey, createPublicKey, sign } from 'node:crypto';

import { encode } from './envelope.mjs';

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');

// The key that belongs to a seed, in hex, and its public half in bytes.
function keys(seed) {
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_ED25519, Buffer.from(seed, 'hex')]),
    format: 'der',
    type: 'pkcs8',
  });
  const publicKey = Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x, 'base64url');
  return { key, publicKey };
}

// Answers a challenge (protocol section 3) as a client should: after it has looked at it.
export function answer({ auth_challenge: challenge }, seed, host, forge) {
  const nonce = Buffer.from(challenge.nonce, 'hex');
  if (challenge.version !== 1 || nonce.length !== 32 || challenge.relay_host.toLowerCase() !== host) {
    throw new Error(`not a challenge of ${host}: ${JSON.stringify(challenge)}`);
  }
  const { key, publicKey } = keys(seed);
  const text = Buffer.concat([Buffer.from(`pinch-auth-v1\0${challenge.relay_host}\0`), nonce]);
  const signature = sign(null, text, key);
  if (forge) signature[0] ^= 1;
  const response = {
    version: 1,
    public_key: publicKey.toString('hex'),
    signature: signature.toString('hex'),
    nonce: challenge.nonce,
  };
  return encode({ version: 1, type: 3, auth_response: response });
}
