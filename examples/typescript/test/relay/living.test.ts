// How a client lives with a real relay, from envelopes to the relay's restart.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { MessageType, type WebSocketLike, encodeEnvelope, payloadOf } from 'pinch-relay-client';

import { openWebSocket } from '../../src/socket.js';
import { ALICE, BOB } from '../support/agents.js';
import { Inbox, LIMIT_MS, hex, soon, unhex } from '../support/inbox.js';
import { HOST, Relay } from '../support/relay.js';
import { inBothModes, joined, relayTest } from '../support/suite.js';

inBothModes('leaves in order, and its address is free at once', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  const { client, watch } = await joined(context, relay, mode, ALICE);
  client.sendEnvelope({ toAddress: BOB.name });
  await soon('the end', client.disconnect());
  assert.deepEqual(await watch.event('closed'), { type: 'closed', unconfirmed: [] });
  await relay.hasConnections(0);
  await soon('the second life', client.connect());
  await relay.hasConnections(1);
});

inBothModes('heartbeats of both sides keep a connection alive', async (context, program, mode) => {
  const flags = ['--heartbeat-interval', '100ms', '--pong-timeout', '5s'];
  const relay = await Relay.start(context, program, { mode, flags });
  const messages = new Inbox<true>();
  const listening = async (url: string): Promise<WebSocketLike> => {
    const socket = await openWebSocket(url);
    socket.addEventListener('message', () => messages.push(true));
    return socket;
  };
  const options = { heartbeatIntervalMs: 50, heartbeatTimeoutMs: 5_000, openWebSocket: listening };
  const { client, watch } = await joined(context, relay, mode, ALICE, options);
  messages.drain();
  // Each is a heartbeat that came back. Meanwhile the relay pings, and would cut who does not answer.
  for (let count = 0; count < 10; count += 1) await messages.next('a heartbeat');
  assert.deepEqual(watch.events.drain(), []);
  assert.deepEqual(watch.arrivals.drain(), []);
  assert.equal(await relay.connections(), 1);
  client.sendEnvelope({ toAddress: client.address });
  await watch.arrival();
});

relayTest('a relay that hangs is noticed, and joined again when it goes on', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'open', flags: ['--on-duplicate', 'replace'] });
  const options = { heartbeatIntervalMs: 50, heartbeatTimeoutMs: 500, backoffBaseMs: 10 };
  const { watch } = await joined(context, relay, 'open', ALICE, options);
  relay.signal('SIGSTOP');
  const { error } = await watch.event('disconnected');
  assert.equal(error.fault.kind, 'heartbeat-timeout');
  relay.signal('SIGCONT');
  for (;;) {
    const event = await watch.events.next('the join');
    if (event.type === 'joined') return;
    assert.equal(event.type, 'disconnected');
  }
});

inBothModes('whoever is replaced stays away', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode, flags: ['--on-duplicate', 'replace'] });
  const first = await joined(context, relay, mode, ALICE);
  await joined(context, relay, mode, ALICE);
  const { error } = await first.watch.event('gave-up');
  assert.ok(error.replaced);
  assert.equal(await relay.connections(), 1);
});

inBothModes('envelopes arrive verbatim', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  const alice = await joined(context, relay, mode, ALICE);
  const bob = await joined(context, relay, mode, BOB);
  const parties = [
    [alice, bob],
    [bob, alice],
  ] as const;
  for (const length of [0, 1, 126, 65_000]) {
    for (const [sender, recipient] of parties) {
      const envelope = {
        version: 1,
        fromAddress: sender.client.address,
        toAddress: recipient.client.address,
        type: MessageType.Message,
        messageId: Uint8Array.of(1, 2, 3),
        timestamp: 1_700_000_000_000n,
        payload: {
          kind: 'encrypted',
          nonce: new Uint8Array(24).fill(7),
          ciphertext: Uint8Array.from({ length }, (_, at) => at & 0xff),
          senderPublicKey: new Uint8Array(32).fill(9),
        },
      } as const;
      // With a field that nobody knows behind it.
      const bytes = Uint8Array.from([...encodeEnvelope(envelope), ...unhex('9a0603616263')]);
      sender.client.sendEnvelope(bytes);
      const arrival = await recipient.watch.arrival();
      assert.equal(hex(arrival.bytes), hex(bytes));
      assert.deepEqual(arrival.envelope, envelope);
    }
  }
  await soon('the confirmation', alice.client.flush());
  assert.equal(alice.client.unconfirmedBytes, 0);
});

relayTest('the relay says which envelope does not arrive, and why', async (context, program) => {
  const relay = await Relay.start(context, program, { mode: 'challenge' });
  const { client, watch } = await joined(context, relay, 'challenge', ALICE);
  const messageId = client.sendEnvelope({ toAddress: BOB.proven });
  const { envelope } = await watch.arrival();
  assert.equal(envelope.type, MessageType.QueueFull);
  assert.deepEqual(envelope.messageId, messageId);
  const refused = payloadOf(envelope, 'queueFull');
  assert.equal(refused?.recipientAddress, BOB.proven);
  assert.match(refused?.reason ?? '', /offline/);
});

inBothModes('comes back after the relay restarts', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  const options = { backoffBaseMs: 10, backoffMaxMs: 100, maxTries: Infinity };
  const alice = await joined(context, relay, mode, ALICE, options);
  const bob = await joined(context, relay, mode, BOB, options);
  await relay.end('SIGTERM');
  for (const { watch } of [alice, bob]) {
    const { error } = await watch.event('disconnected');
    assert.deepEqual(error.fault, { kind: 'closed', code: 1001, reason: 'going away' });
  }
  const again = await Relay.startAgain(context, program, { mode, port: relay.port });
  for (const { watch } of [alice, bob]) {
    // It may have tried in vain while there was no relay.
    while ((await watch.events.next('the join')).type !== 'joined');
  }
  await again.hasConnections(2);
  alice.client.sendEnvelope({ toAddress: bob.client.address, messageId: Uint8Array.of(42) });
  const { envelope } = await bob.watch.arrival();
  assert.deepEqual(envelope.messageId, Uint8Array.of(42));
});

inBothModes('the example runs, and ends by itself', async (context, program, mode) => {
  const relay = await Relay.start(context, program, { mode });
  const example = fileURLToPath(new URL('../../example/hello.js', import.meta.url));
  const who = mode === 'open' ? ALICE.name : HOST;
  const { stdout } = await promisify(execFile)(process.execPath, [example, relay.url, who], {
    timeout: LIMIT_MS,
  });
  assert.match(stdout, /^joined\nhello, pinch:\S+\nclosed\n$/);
});
