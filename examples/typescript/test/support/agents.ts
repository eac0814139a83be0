/** Who takes part in tests: two agents with known keys. */

import { type Identity, signerFromSeed } from 'pinch-relay-client';

import { HOST, type RelayOptions } from './relay.js';

/** Somebody who joins: with a key, or by name. */
export interface Agent {
  readonly seed: Uint8Array;
  /** The address that belongs to the key. */
  readonly proven: string;
  readonly name: string;
}

export const ALICE: Agent = {
  seed: new Uint8Array(32).fill(0xaa),
  proven: `pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@${HOST}`,
  name: 'pinch:alice+1&x=%41@example.com',
};

export const BOB: Agent = {
  seed: Uint8Array.from({ length: 32 }, (_, at) => (at === 31 ? 1 : 0)),
  proven: `pinch:anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn@${HOST}`,
  name: 'pinch:bob@example.com',
};

type Mode = RelayOptions['mode'];

export function addressIn(mode: Mode, agent: Agent): string {
  return mode === 'open' ? agent.name : agent.proven;
}

export async function identityIn(mode: Mode, agent: Agent): Promise<Identity> {
  if (mode === 'open') return { mode, address: agent.name };
  return { mode, signer: await signerFromSeed(agent.seed), host: HOST };
}
