// How a client joins and comes back, without a relay: the test is the relay and the clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import { LinkError, type LinkFault, MessageType, encodeEnvelope } from 'pinch-relay-client';

import { ALICE, identityIn } from '../support/agents.js';
import { Desk, ME, toMe } from '../support/desk.js';
import { GRACE_MS } from '../support/fakes.js';
import { soon } from '../support/inbox.js';
import { HOST } from '../support/relay.js';

const DUPLICATE = 'address already connected';

function kindOf(error: unknown): LinkFault['kind'] {
  assert.ok(error instanceof LinkError, String(error));
  return error.fault.kind;
}

const challenge = encodeEnvelope({
  ...toMe({
    kind: 'authChallenge',
    version: 1,
    nonce: new Uint8Array(32),
    issuedAtMs: 1n,
    expiresAtMs: 2n,
    relayHost: HOST,
  }),
  type: MessageType.AuthChallenge,
});

const result = (success: boolean, errorMessage = ''): Uint8Array =>
  encodeEnvelope({
    ...toMe({ kind: 'authResult', success, errorMessage, assignedAddress: success ? ALICE.proven : '' }),
    type: MessageType.AuthResult,
  });

test('in open mode, a client has joined when its first heartbeat is back', async () => {
  const desk = new Desk();
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  assert.equal(new URL(socket.url).searchParams.get('address'), ME);
  assert.equal(socket.binaryType, 'arraybuffer');
  socket.emit('open');
  assert.equal(desk.client.state, 'connecting');
  const [heartbeat] = socket.envelopes;
  assert.equal(heartbeat?.type, MessageType.Heartbeat);
  assert.equal(heartbeat?.toAddress, ME);
  socket.echo();
  assert.equal(await connected, ME);
  assert.equal(desk.client.state, 'joined');
  assert.deepEqual(await desk.watch.event('joined'), { type: 'joined', address: ME });
  assert.deepEqual(desk.watch.arrivals.drain(), [], 'a heartbeat is nobody’s envelope');
});

test('what comes before that heartbeat shows that the client has joined, too, and is not lost', async () => {
  const desk = new Desk();
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  socket.emit('open');
  socket.receive(toMe());
  await connected;
  assert.deepEqual((await desk.watch.arrival()).envelope, toMe());
});

test('in challenge mode, a client has joined when the relay says so', async () => {
  const desk = new Desk({ identity: await identityIn('challenge', ALICE) });
  assert.equal(desk.client.address, ALICE.proven);
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  const answered = new Promise<void>((resolve) => (socket.onSend = resolve));
  socket.emit('open');
  socket.receive(challenge);
  await soon('the answer', answered);
  assert.equal(socket.envelopes.at(-1)?.type, MessageType.AuthResponse);
  socket.receive(result(true));
  assert.equal(await connected, ALICE.proven);
});

test('a refusal reaches whoever waits for the join', async () => {
  const desk = new Desk({ identity: await identityIn('challenge', ALICE), maxTries: 1 });
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  const answered = new Promise<void>((resolve) => (socket.onSend = resolve));
  socket.emit('open');
  socket.receive(challenge);
  await soon('the answer', answered);
  socket.receive(result(false, DUPLICATE));
  await assert.rejects(connected, (error) => {
    assert.deepEqual(error instanceof LinkError && error.fault, { kind: 'refused', reason: DUPLICATE });
    return true;
  });
  assert.equal((await desk.watch.event('gave-up')).tries, 1);
  assert.ok(desk.isAtRest(socket));

  const named = new Desk({ maxTries: 1 });
  const refused = named.client.connect();
  const other = await named.network.socket();
  other.emit('open');
  other.end(1008, DUPLICATE);
  await assert.rejects(refused, (error) => kindOf(error) === 'closed');
  assert.ok(named.isAtRest(other));
});

test('a verdict before the answer is none, unless it is a refusal', async () => {
  for (const [verdict, kind] of [
    [result(true), 'unexpected-message'],
    [result(false, 'too late'), 'refused'],
  ] as const) {
    const identity = await identityIn('challenge', ALICE);
    assert.ok(identity.mode === 'challenge');
    const signer = { ...identity.signer, sign: () => new Promise<never>(() => {}) };
    const desk = new Desk({ identity: { ...identity, signer }, maxTries: 1 });
    const connected = desk.client.connect();
    const socket = await desk.network.socket();
    socket.emit('open');
    socket.receive(challenge);
    socket.receive(verdict);
    await assert.rejects(connected, (error) => kindOf(error) === kind);
  }
});

test('an answer that is signed too late is not sent', async () => {
  const identity = await identityIn('challenge', ALICE);
  assert.ok(identity.mode === 'challenge');
  let finish: (signature: Uint8Array) => void = () => {};
  const signature = new Promise<Uint8Array>((resolve) => (finish = resolve));
  const signer = { ...identity.signer, sign: () => signature };
  const desk = new Desk({ identity: { ...identity, signer }, maxTries: 1 });
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  socket.emit('open');
  socket.receive(challenge);
  desk.clock.advance(10_000 + GRACE_MS);
  await assert.rejects(connected, (error) => kindOf(error) === 'join-timeout');
  finish(new Uint8Array(64));
  await setImmediate();
  assert.deepEqual(socket.sent, []);
});

test('a relay in the other mode is told from one that is broken', async () => {
  const desk = new Desk();
  const connected = desk.client.connect();
  const socket = await desk.network.socket();
  socket.emit('open');
  socket.receive(challenge);
  await assert.rejects(connected, (error) => kindOf(error) === 'key-needed');
  assert.equal((await desk.watch.event('gave-up')).tries, 1, 'it is permanent');
  assert.ok(desk.isAtRest(socket));
});

test('whatever takes too long is given up and tried again', async () => {
  const desk = new Desk({ dialTimeoutMs: 10, joinTimeoutMs: 20, backoffBaseMs: 100 });
  void desk.client.connect();
  const first = await desk.network.socket();
  desk.clock.advance(10 + 5);
  const dial = await desk.watch.event('disconnected');
  assert.deepEqual(dial.error.fault, { kind: 'dial-timeout', afterMs: 10 });
  assert.equal(dial.retryInMs, 100);
  assert.ok(first.isDropped && first.listeners === 0);
  desk.clock.advance(100);
  const second = await desk.network.socket();
  second.emit('open');
  desk.clock.advance(20 + 10);
  assert.deepEqual((await desk.watch.event('disconnected')).error.fault, {
    kind: 'join-timeout',
    afterMs: 20,
  });
  desk.clock.advance(200);
  await desk.admit();
});

test('a dial that fails is told with what the platform says, and tried again', async () => {
  const desk = new Desk({ maxTries: 3 });
  const connected = desk.client.connect();
  const first = await desk.network.socket();
  first.emit('error', { message: 'Unexpected server response: 403' });
  const { error } = await desk.watch.event('disconnected');
  assert.deepEqual(error.fault, { kind: 'dial-failed', detail: 'Unexpected server response: 403' });
  desk.clock.advance(500);
  (await desk.network.socket()).end(1006);
  assert.equal((await desk.watch.event('disconnected')).retryInMs, 1000);
  desk.clock.advance(1000);
  (await desk.network.socket()).end(1006);
  await assert.rejects(connected, (last) => kindOf(last) === 'dial-failed');
  assert.equal((await desk.watch.event('gave-up')).tries, 3);
  assert.ok(desk.isAtRest());

  // Who connects again has all tries again.
  const again = desk.client.connect();
  (await desk.network.socket()).end(1006);
  assert.equal((await desk.watch.event('disconnected')).retryInMs, 500);
  desk.clock.advance(500);
  await desk.admit();
  await again;

  const broken = new Desk({ maxTries: 1, openWebSocket: () => Promise.reject(new Error('no socket')) });
  await assert.rejects(broken.client.connect(), /no socket/);
});

test('an upgrade is tried again unless the answer will be the same', async () => {
  const permanent = [301, 308, 400, 401, 403, 404, 405, 410, 426, 431, 451];
  const temporary = [200, 302, 307, 408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 0];
  for (const status of [...permanent, ...temporary]) {
    const desk = new Desk();
    const connected = desk.client.connect().catch((error: unknown) => error);
    const rejection = { status, reason: 'so it is', retryAfterMs: 0 };
    (await desk.network.socket()).emit('error', { message: 'rejected', error: { rejection } });
    const isFinal = permanent.includes(status);
    const { error } = await desk.watch.event(isFinal ? 'gave-up' : 'disconnected');
    assert.deepEqual(error.fault, { kind: 'upgrade-rejected', ...rejection });
    assert.match(error.message, new RegExp(`^the relay answered ${status} so it is; .+`));
    if (isFinal) assert.equal(await connected, error);
    else await desk.client.disconnect();
    assert.ok(desk.isAtRest());
  }
});

test('the wait that a rejection asks for comes before the backoff', async () => {
  const desk = new Desk();
  void desk.client.connect().catch(() => {});
  const rejection = { status: 503, reason: '', retryAfterMs: 120_000 };
  (await desk.network.socket()).emit('error', { error: { rejection } });
  assert.equal((await desk.watch.event('disconnected')).retryInMs, 120_500);
  desk.clock.advance(120_500);
  await desk.admit();
});

test('a wrong key ends the tries, unless the answer may have been late', async () => {
  for (const [elapsedMs, kind] of [
    [0, 'refused'],
    [1, 'maybe-late'],
  ] as const) {
    // The challenge is valid for a millisecond.
    const desk = new Desk({ identity: await identityIn('challenge', ALICE) });
    void desk.client.connect().catch(() => {});
    const socket = await desk.network.socket();
    const answered = new Promise<void>((resolve) => (socket.onSend = resolve));
    socket.emit('open');
    socket.receive(challenge);
    await soon('the answer', answered);
    desk.clock.advance(elapsedMs);
    socket.receive(result(false, 'authentication failed'));
    const { error } = await desk.watch.event(kind === 'refused' ? 'gave-up' : 'disconnected');
    assert.equal(error.fault.kind, kind);
    await desk.client.disconnect();
  }
});

test('a message that no relay sends ends the link', async () => {
  const desk = new Desk();
  const socket = await desk.join();
  socket.receive(new Uint8Array((1 << 20) + 1));
  const { error } = await desk.watch.event('disconnected');
  assert.deepEqual(error.fault, { kind: 'message-too-large', limit: 1 << 20 });
  assert.ok(socket.isDropped);
  desk.clock.advance(500);
  // Where `ws` has not even handed it over.
  (await desk.admit()).emit('error', { error: { code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' } });
  assert.equal((await desk.watch.event('disconnected')).error.fault.kind, 'message-too-large');
});

test('a client comes back after a lost link, and a lasting join forgets what failed before', async () => {
  const desk = new Desk({ backoffBaseMs: 100, stableAfterMs: 1000 });
  const first = await desk.join();
  first.end(1001, 'going away');
  const { error, retryInMs } = await desk.watch.event('disconnected');
  assert.deepEqual(error.fault, { kind: 'closed', code: 1001, reason: 'going away' });
  assert.equal(retryInMs, 100);
  assert.equal(desk.client.state, 'waiting');
  desk.clock.advance(99);
  assert.equal(desk.client.state, 'waiting');
  desk.clock.advance(1);
  const second = await desk.admit();
  desk.clock.advance(999);
  second.end(1006);
  assert.equal((await desk.watch.event('disconnected')).retryInMs, 200, 'too short to forget');
  desk.clock.advance(200);
  const third = await desk.admit();
  desk.clock.advance(1000);
  third.end(1006);
  assert.equal((await desk.watch.event('disconnected')).retryInMs, 100);
});

test('after what would come again, a client does not', async () => {
  const permanent: readonly [number, string][] = [
    [1003, ''],
    [1007, ''],
    [1009, ''],
    [1008, 'from_address is not yours'],
    [1008, 'key not registered'],
    [4001, 'replaced by a new connection'],
  ];
  for (const [code, reason] of permanent) {
    const desk = new Desk();
    const socket = await desk.join();
    socket.end(code, reason);
    const { error } = await desk.watch.event('gave-up');
    assert.deepEqual(error.fault, { kind: 'closed', code, reason });
    assert.equal(desk.client.state, 'idle');
    assert.ok(desk.isAtRest(socket));
  }
  for (const [code, reason] of [
    [1000, ''],
    [1002, ''],
    [1008, 'too slow'],
    [1008, DUPLICATE],
    [1013, ''],
  ] as const) {
    const desk = new Desk();
    (await desk.join()).end(code, reason);
    await desk.watch.event('disconnected');
  }
  const jealous = new Desk({ rejoinWhenReplaced: true });
  (await jealous.join()).end(4001);
  await jealous.watch.event('disconnected');
  jealous.clock.advance(500);
  (await jealous.admit()).end(1003);
  await jealous.watch.event('gave-up');
  assert.ok(new LinkError({ kind: 'refused', reason: 'key not registered' }).permanent);
  assert.ok(new LinkError({ kind: 'refused', reason: 'authentication failed' }).permanent);
  assert.ok(!new LinkError({ kind: 'refused', reason: DUPLICATE }).permanent);
  const asked = 'too many joins of this address; try again in 1500 ms';
  assert.equal(new LinkError({ kind: 'refused', reason: asked }).retryAfterMs, 1500);
  assert.equal(new LinkError({ kind: 'closed', code: 1013, reason: asked }).retryAfterMs, 1500);
  assert.equal(new LinkError({ kind: 'closed', code: 1013, reason: `${asked.slice(0, -3)}000000000 ms` }).retryAfterMs, 3_600_000);
  assert.equal(new LinkError({ kind: 'closed', code: 1008, reason: asked }).retryAfterMs, 0);
  assert.equal(new LinkError({ kind: 'refused', reason: DUPLICATE }).retryAfterMs, 0);
});
