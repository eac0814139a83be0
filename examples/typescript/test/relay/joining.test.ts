// Who joins a real relay, and who does not.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';

import { LinkError, type LinkFault, RelayClient, generateSeed, signerFromSeed } from 'pinch-relay-client';

import { ALICE, BOB, addressIn } from '../support/agents.js';
import { soon } from '../support/inbox.js';
import { HOST, Relay } from '../support/relay.js';
import { client, inBothModes, joined, relayTest } from '../support/suite.js';

const DUPLICATE = 'address already connected';

/** Why a join fails. */
async function refusal(connecting: Promise<string>): Promise<LinkFault> {
  const error = await soon(
    'the refusal',
    connecting.then(assert.fail, (reason: unknown) => reason),
  );
  assert.ok(error instanceof LinkError, String(error));
  return error.fault;
}

inBothModes('joins, and appears in /health', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  assert.equal(await relay.connections(), 0);
  const alice = await client(context, relay, mode, ALICE);
  assert.equal(await soon('the join', alice.client.connect()), addressIn(mode, ALICE));
  assert.equal(alice.client.address, addressIn(mode, ALICE));
  assert.equal(await relay.connections(), 1);
});

relayTest('several clients have several addresses', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const addresses = new Set<string>();
  for (let count = 1; count <= 5; count += 1) {
    const identity = { mode: 'challenge', signer: await signerFromSeed(generateSeed()), host: HOST } as const;
    const stranger = new RelayClient({ url: relay.url, identity });
    context.after(() => stranger.disconnect());
    addresses.add(await soon('the join', stranger.connect()));
    assert.equal(await relay.connections(), count);
  }
  assert.equal(addresses.size, 5);
});

relayTest('the same key gets the same address', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const seen = [];
  for (let life = 0; life < 2; life += 1) {
    const { client } = await joined(context, relay, 'challenge', BOB);
    seen.push(client.address);
    await client.disconnect();
    await relay.hasConnections(0);
  }
  assert.deepEqual(seen, [BOB.proven, BOB.proven]);
});

relayTest('a plain GET of /ws is refused', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const response = await fetch(relay.http('/ws'));
  assert.equal(response.status, 426);
});

relayTest('a client without an address is refused in open mode', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'open' });
  const upgrade = {
    connection: 'upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  };
  for (const query of ['', '?address=', '?address=alice']) {
    const asking = request(relay.http(`/ws${query}`), { headers: upgrade, agent: false }).end();
    const [response] = (await soon('the answer', once(asking, 'response'))) as [IncomingMessage];
    assert.equal(response.statusCode, 400, query);
    response.resume();
  }
  // A client with a key says no address either.
  const { client: alice } = await client(context, relay, 'challenge', ALICE);
  const fault = await refusal(alice.connect());
  assert.ok(fault.kind === 'upgrade-rejected' && fault.status === 400, JSON.stringify(fault));
});

relayTest('a client without a key is told that it needs one in challenge mode', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const { client: alice } = await client(context, relay, 'open', ALICE);
  assert.deepEqual(await refusal(alice.connect()), { kind: 'key-needed' });
  await relay.hasConnections(0);
});

relayTest('a wrong key is refused', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const [own, others] = await Promise.all([signerFromSeed(ALICE.seed), signerFromSeed(BOB.seed)]);
  const signer = { publicKey: own.publicKey, sign: others.sign };
  const forger = new RelayClient({ url: relay.url, identity: { mode: 'challenge', signer, host: HOST } });
  assert.deepEqual(await refusal(forger.connect()), { kind: 'refused', reason: 'authentication failed' });
  await relay.hasConnections(0);
});

relayTest('nothing is signed for another relay', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const signer = await signerFromSeed(ALICE.seed);
  const sign = (): never => assert.fail('it was signed');
  const elsewhere = 'relay.example.org';
  const identity = { mode: 'challenge', signer: { ...signer, sign }, host: elsewhere } as const;
  const astray = new RelayClient({ url: relay.url, identity });
  assert.deepEqual(await refusal(astray.connect()), { kind: 'wrong-host', found: HOST, expected: elsewhere });
});

inBothModes('a duplicate is refused, and the first stays', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  const first = await joined(context, relay, mode, ALICE);
  const second = await client(context, relay, mode, ALICE, { maxTries: 1 });
  const fault = await refusal(second.client.connect());
  assert.deepEqual(
    fault,
    mode === 'open' ? { kind: 'closed', code: 1008, reason: DUPLICATE } : { kind: 'refused', reason: DUPLICATE },
  );
  assert.equal(await relay.connections(), 1);
  first.client.sendEnvelope({ toAddress: first.client.address });
  await first.watch.arrival();
});
