// What a client sends, receives and confirms, and how it finds out that its relay is gone.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  DisconnectedError,
  EnvelopeError,
  LinkError,
  MessageType,
  type OutgoingEnvelope,
  SendError,
  type SendFault,
  decodeEnvelope,
  encodeEnvelope,
} from 'pinch-relay-client';

import { BOB } from '../support/agents.js';
import { Desk, ME, fromMe, toMe } from '../support/desk.js';
import { GRACE_MS } from '../support/fakes.js';
import { hex, unhex } from '../support/inbox.js';

const DEAD = { kind: 'heartbeat-timeout', afterMs: 7_000 } as const;

function faultOf(send: () => unknown): SendFault {
  try {
    send();
  } catch (error) {
    assert.ok(error instanceof SendError, String(error));
    return error.fault;
  }
  return assert.fail('it was sent');
}

test('an envelope is completed, and sent at once', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  const payload = { kind: 'heartbeat', timestamp: 1n } as const;
  const messageId = desk.client.sendEnvelope({ toAddress: BOB.name, payload });
  const sent = socket.envelopes.at(-1);
  assert.ok(sent !== undefined);
  const { timestamp, ...rest } = sent;
  assert.ok(timestamp > 1_700_000_000_000n);
  const routing = { version: 1, fromAddress: ME, toAddress: BOB.name, type: MessageType.Message };
  assert.deepEqual(rest, { ...routing, messageId, payload });
  assert.equal(messageId.length, 16);
  const whole = { toAddress: BOB.name, type: 77, messageId: Uint8Array.of(9), timestamp: 3n };
  assert.deepEqual(desk.client.sendEnvelope(whole), whole.messageId);
  assert.deepEqual(socket.envelopes.at(-1), { version: 1, fromAddress: ME, ...whole });
});

test('bytes are sent verbatim, and may be used again at once', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  const bytes = Uint8Array.from([...fromMe(100), ...unhex('9a0603616263')]);
  const expected = hex(bytes);
  desk.client.sendEnvelope(bytes);
  bytes.fill(0);
  assert.equal(hex(socket.sent.at(-1) ?? bytes), expected);
});

test('what would not arrive is not sent, and the error says why', async () => {
  const desk = new Desk();
  const { client } = desk;
  const some: OutgoingEnvelope = { toAddress: BOB.name };
  assert.deepEqual(
    faultOf(() => client.sendEnvelope(some)),
    { kind: 'not-connected', state: 'idle' },
  );
  await assert.rejects(client.flush(), SendError);
  const connected = client.connect();
  assert.deepEqual(
    faultOf(() => client.sendEnvelope(some)),
    { kind: 'not-connected', state: 'connecting' },
  );
  const socket = await desk.admit();
  await connected;

  const before = socket.sent.length;
  client.sendEnvelope(fromMe(65_536));
  assert.deepEqual(
    faultOf(() => client.sendEnvelope(fromMe(65_537))),
    { kind: 'too-large', bytes: 65_537, limit: 65_536 },
  );
  const strange = encodeEnvelope(toMe());
  assert.deepEqual(
    faultOf(() => client.sendEnvelope(strange)),
    {
      kind: 'not-your-address',
      found: BOB.name,
      expected: ME,
    },
  );
  for (const type of [2, 3, 9, 13, 14, 15]) {
    assert.deepEqual(
      faultOf(() => client.sendEnvelope({ ...some, type })),
      { kind: 'relay-only', type },
    );
  }
  assert.equal(faultOf(() => client.sendEnvelope(Uint8Array.of(0x80))).kind, 'malformed');
  assert.equal(socket.sent.length, before + 1);

  socket.end(1006);
  assert.deepEqual(
    faultOf(() => client.sendEnvelope(some)),
    { kind: 'not-connected', state: 'waiting' },
  );
});

test('heartbeats keep to their interval, and anything that comes is a sign of life', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  for (let beat = 1; beat <= 3; beat += 1) {
    desk.clock.advance(24_999);
    assert.equal(socket.sent.length, beat);
    desk.clock.advance(1);
    assert.equal(socket.sent.length, beat + 1);
    socket.echo();
  }
  // The fourth gets no answer, but an envelope comes in time; so does the fifth.
  desk.clock.advance(25_000);
  desk.clock.advance(6_999);
  socket.receive(toMe());
  desk.clock.advance(18_001);
  desk.clock.advance(6_999 + GRACE_MS);
  assert.equal(socket.sent.length, 5, 'one is on its way at most');
  assert.equal(desk.client.state, 'joined');
  desk.clock.advance(1);
  assert.deepEqual((await desk.watch.event('disconnected')).error.fault, DEAD);
  assert.ok(socket.isDropped && socket.listeners === 0);
});

test('what the relay says about a heartbeat is an answer to it, and nobody else’s business', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  desk.clock.advance(25_000);
  const [heartbeat] = socket.envelopes.slice(-1);
  assert.ok(heartbeat !== undefined);
  const refusal = toMe({ kind: 'rateLimited', retryAfterMs: 1n, reason: 'too many' }, MessageType.RateLimited);
  socket.receive({ ...refusal, messageId: heartbeat.messageId });
  desk.clock.advance(7_000);
  assert.equal(desk.client.state, 'joined');
  assert.deepEqual(desk.watch.arrivals.drain(), []);
});

test('a heartbeat that the relay kept and delivers later is nobody’s business, and confirms nothing', async () => {
  const desk = new Desk();
  const first = await desk.join();
  desk.clock.advance(25_000);
  const late = first.sent.at(-1) ?? new Uint8Array();
  first.end(1006);
  await desk.watch.event('disconnected');
  desk.clock.advance(500);
  const socket = await desk.admit();
  desk.client.sendEnvelope(fromMe(100));
  const flushed = desk.client.flush();
  socket.receive(late);
  assert.equal(desk.client.unconfirmedBytes, 100);
  socket.echo();
  await flushed;
  assert.equal(desk.client.unconfirmedBytes, 0);
  socket.receive(late);

  // A program that has been started again does not know the heartbeats of its former life.
  const restarted = new Desk();
  (await restarted.join()).receive(late);
  for (const { watch } of [desk, restarted]) assert.deepEqual(watch.arrivals.drain(), []);
});

test('a heartbeat of somebody else, and what one writes to oneself, are envelopes like others', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  const others = toMe({ kind: 'heartbeat', timestamp: 1n }, MessageType.Heartbeat);
  const own = { ...toMe(), fromAddress: ME };
  for (const envelope of [others, own]) {
    socket.receive(envelope);
    assert.deepEqual((await desk.watch.arrival()).envelope, envelope);
  }
});

test('a link that still takes what was sent is slow, not dead', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  socket.bufferedAmount = 1000;
  desk.clock.advance(25_000);
  socket.bufferedAmount = 400;
  desk.clock.advance(7_000 + GRACE_MS);
  assert.equal(desk.client.state, 'joined');
  desk.clock.advance(7_000 + GRACE_MS);
  assert.deepEqual((await desk.watch.event('disconnected')).error.fault, DEAD);
});

test('a pause of any length at any moment gives up no relay that has answered', async () => {
  for (const pauseMs of [1, 600, 8_000, 86_400_000]) {
    for (const beforeMs of [0, 3_000, 6_999]) {
      const desk = new Desk();
      const socket = await desk.join();
      desk.clock.advance(25_000);
      desk.clock.advance(beforeMs);
      desk.clock.pause(pauseMs);
      // Timers go first; the answer lies in the socket.
      desk.clock.advance(0);
      desk.clock.advance(GRACE_MS / 2 - 1);
      assert.equal(desk.client.state, 'joined', `${pauseMs} ms after ${beforeMs} ms`);
      socket.echo();
      desk.clock.advance(7_000 + GRACE_MS);
      assert.equal(desk.client.state, 'joined');
    }
  }
});

test('a heartbeat that comes back confirms what was sent before it, and a broken link hands back the rest', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  desk.client.sendEnvelope(fromMe(100, 1));
  desk.clock.advance(25_000);
  desk.client.sendEnvelope(fromMe(100, 2));
  desk.client.sendEnvelope(fromMe(100, 3));
  assert.equal(desk.client.unconfirmedBytes, 300);
  socket.receive(socket.sent.at(-3) ?? new Uint8Array());
  assert.equal(desk.client.unconfirmedBytes, 200);
  socket.receive(socket.sent.at(-3) ?? new Uint8Array());
  assert.equal(desk.client.unconfirmedBytes, 200, 'it confirms once');
  socket.end(1006);
  const { unconfirmed } = await desk.watch.event('disconnected');
  assert.deepEqual(unconfirmed, [fromMe(100, 2), fromMe(100, 3)]);
  assert.equal(desk.client.unconfirmedBytes, 0);
});

test('flush() waits for all that was sent', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  await desk.client.flush();
  assert.equal(socket.sent.length, 1, 'there was nothing to ask for');
  desk.client.sendEnvelope(fromMe(100, 1));
  const first = desk.client.flush();
  const heartbeat = socket.sent.at(-1) ?? new Uint8Array();
  desk.client.sendEnvelope(fromMe(100, 2));
  const second = desk.client.flush();
  assert.equal(socket.sent.length, 4, 'the heartbeat of the first is still on its way');
  socket.receive(heartbeat);
  await first;
  assert.equal(desk.client.unconfirmedBytes, 100);
  assert.equal(decodeEnvelope(socket.sent.at(-1) ?? heartbeat).type, MessageType.Heartbeat);
  socket.echo();
  await second;

  desk.client.sendEnvelope(fromMe(100, 3));
  const broken = assert.rejects(desk.client.flush(), LinkError);
  socket.end(1006);
  await broken;
  await desk.watch.event('disconnected');
  desk.clock.advance(500);
  const next = await desk.admit();
  desk.client.sendEnvelope(fromMe(100, 4));
  const left = assert.rejects(desk.client.flush(), DisconnectedError);
  const gone = desk.client.disconnect();
  next.end(1006);
  await Promise.all([left, gone]);
  assert.deepEqual((await desk.watch.event('closed')).unconfirmed, [fromMe(100, 4)]);
});

test('a close that the relay answers confirms everything', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  desk.client.sendEnvelope(fromMe(100));
  const gone = desk.client.disconnect();
  socket.end(1000);
  await gone;
  assert.deepEqual((await desk.watch.event('closed')).unconfirmed, []);
});

test('what is unconfirmed is bounded; room is made before it runs out', async () => {
  const desk = new Desk({ maxUnconfirmedBytes: 100_000, maxUnconfirmedCount: 4 });
  const socket = await desk.join();
  desk.client.sendEnvelope(fromMe(50_000, 1));
  assert.equal(socket.sent.length, 2);
  desk.client.sendEnvelope(fromMe(50_000, 2));
  assert.equal(socket.sent.length, 4, 'more than half: a heartbeat follows at once');
  assert.deepEqual(
    faultOf(() => desk.client.sendEnvelope(fromMe(100))),
    { kind: 'full', bytes: 100_000, count: 2 },
  );
  socket.echo();
  for (let number = 0; number < 4; number += 1) desk.client.sendEnvelope(fromMe(100, number));
  assert.deepEqual(
    faultOf(() => desk.client.sendEnvelope(fromMe(100))),
    { kind: 'full', bytes: 400, count: 4 },
  );
  const flushed = desk.client.flush();
  // The heartbeat behind the third, then the one behind the fourth.
  socket.receive(socket.sent.at(-2) ?? new Uint8Array());
  socket.echo();
  await flushed;
  desk.client.sendEnvelope(fromMe(100));
});

test('what is no envelope ends the link, which is tried again', async () => {
  for (const [message, kind] of [
    ['{}', 'text-message'],
    [Uint8Array.of(0x12, 0x7f), 'malformed'],
  ] as const) {
    const desk = new Desk();
    const socket = await desk.join();
    socket.receive(message);
    const { error } = await desk.watch.event('disconnected');
    assert.equal(error.fault.kind, kind);
    assert.match(error.message, /expected|no envelope/);
    assert.ok(socket.isDropped);
    desk.clock.advance(500);
    await desk.admit();
  }
});

test('a broken payload is its sender’s fault: the link lives on', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  const broken = Uint8Array.from([...encodeEnvelope(toMe()), ...unhex('5202 0a7f')]);
  socket.receive(broken);
  const { error, bytes } = await desk.watch.event('unreadable');
  assert.ok(error instanceof EnvelopeError);
  assert.deepEqual(bytes, broken);
  socket.receive(toMe());
  assert.deepEqual((await desk.watch.arrival()).envelope, toMe());
});

test('an envelope comes with its bytes, verbatim, to whoever still listens', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  const seen: string[] = [];
  const unsubscribe = desk.client.onEnvelope((_envelope, bytes) => seen.push(hex(bytes)));
  const first = Uint8Array.from([...unhex('9a0603616263'), ...encodeEnvelope(toMe())]);
  socket.receive(first);
  unsubscribe();
  socket.receive(toMe());
  assert.deepEqual(seen, [hex(first)]);
  assert.equal(desk.watch.arrivals.drain().length, 2);
});

test('an error in a listener is reported, and disturbs neither the others nor the client', async (context) => {
  const desk = new Desk();
  const socket = await desk.join();
  const failures: (() => void)[] = [];
  context.mock.method(globalThis, 'queueMicrotask', (task: () => void) => failures.push(task));
  desk.client.onEnvelope(() => {
    throw new Error('mine');
  });
  const after: number[] = [];
  desk.client.onEnvelope(() => after.push(1));
  socket.receive(toMe());
  assert.deepEqual(after, [1]);
  assert.equal(failures.length, 1);
  assert.throws(() => failures[0]?.(), /mine/);
  assert.equal(desk.client.state, 'joined');
});
