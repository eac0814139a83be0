// How a client leaves, whatever it was doing, without a relay: the test is the relay and the clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DisconnectedError, StateError } from 'pinch-relay-client';

import { Socket } from '../../src/socket.js';
import { Desk, fromMe, toMe } from '../support/desk.js';
import { FakeSocket } from '../support/fakes.js';

test('disconnect() leaves nothing behind, whatever the client was doing', async () => {
  const idle = new Desk();
  await idle.client.disconnect();

  const dialling = new Desk();
  const notDialled = dialling.client.connect();
  const unopened = await dialling.network.socket();
  const gone = dialling.client.disconnect();
  await assert.rejects(notDialled, DisconnectedError);
  await gone;
  assert.ok(dialling.isAtRest(unopened) && unopened.isDropped);
  await dialling.watch.event('closed');

  const joining = new Desk();
  const notJoined = joining.client.connect();
  const unanswered = await joining.network.socket();
  unanswered.emit('open');
  await Promise.all([joining.client.disconnect(), assert.rejects(notJoined, DisconnectedError)]);
  assert.ok(joining.isAtRest(unanswered) && unanswered.isDropped);

  const waiting = new Desk();
  (await waiting.join()).end(1006);
  assert.equal(waiting.client.state, 'waiting');
  await waiting.client.disconnect();
  assert.ok(waiting.isAtRest());

  const joined = new Desk();
  const socket = await joined.join();
  const leaving = Promise.all([joined.client.disconnect(), joined.client.disconnect()]);
  assert.equal(joined.client.state, 'leaving');
  assert.equal(socket.closedWith, 1000);
  socket.receive(toMe());
  await joined.watch.arrival();
  socket.end(1000);
  await leaving;
  assert.ok(joined.isAtRest(socket));
  assert.deepEqual(await joined.watch.event('closed'), { type: 'closed', unconfirmed: [] });

  const deaf = new Desk({ closeTimeoutMs: 50 });
  const silent = await deaf.join();
  const late = deaf.client.disconnect();
  deaf.clock.advance(50 + 25);
  await late;
  assert.ok(deaf.isAtRest(silent) && silent.isDropped);
});

test('a socket that opens after its client has left is dropped', async () => {
  const desk = new Desk();
  let hand: () => void = () => {};
  const opened = new Promise<void>((resolve) => (hand = resolve));
  const slow = new Desk({
    openWebSocket: async (url) => {
      await opened;
      return desk.network.open(url);
    },
  });
  const connected = slow.client.connect();
  await Promise.all([slow.client.disconnect(), assert.rejects(connected, DisconnectedError)]);
  hand();
  const socket = await desk.network.socket();
  assert.ok(socket.isDropped && socket.listeners === 0);
});

test('a client has one life at a time, and may have several', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  await assert.rejects(desk.client.connect(), StateError);
  const left = desk.client.disconnect();
  await assert.rejects(desk.client.connect(), StateError);
  socket.end(1000);
  await left;
  await desk.watch.event('closed');
  await desk.join();
});

test('nothing is sent behind the close frame', async () => {
  const desk = new Desk({ maxUnconfirmedCount: 5 });
  const socket = await desk.join();
  // One that is asked for follows the first, and another would be due when that is back.
  desk.client.sendEnvelope(fromMe(100));
  const flushed = desk.client.flush();
  for (let number = 1; number < 5; number += 1) desk.client.sendEnvelope(fromMe(100, number));
  const gone = desk.client.disconnect();
  const before = socket.sent.length;
  socket.receive(socket.sent.at(2) ?? new Uint8Array());
  await flushed;
  assert.equal(desk.client.unconfirmedBytes, 400);
  assert.equal(socket.sent.length, before);
  socket.end(1000);
  await gone;
});

test('a socket ends once', () => {
  const ends: unknown[] = [];
  const nothing = (): void => {};
  const closed = (end: unknown): unknown => ends.push(end);
  const listener = { opened: nothing, received: nothing, oversized: nothing, closed };
  const failing = new FakeSocket('', () => {});
  new Socket(failing, listener);
  failing.emit('error', { message: 'why' });
  failing.emit('error', {});
  failing.end(1006);
  assert.deepEqual(ends, [{ code: 1006, reason: '', detail: 'why', rejection: undefined }]);
  const dropped = new FakeSocket('', () => {});
  new Socket(dropped, listener).drop();
  dropped.emit('error', {});
  dropped.end(1006);
  assert.equal(ends.length, 1);
});
