// Backoff, and the settings of a client.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConfigError, RelayClient, type RelayClientOptions } from 'pinch-relay-client';

import { Backoff } from '../../src/backoff.js';
import { complete } from '../../src/options.js';
import { ALICE, identityIn } from '../support/agents.js';

test('each failure doubles the wait up to a maximum, and a lasting join forgets them', () => {
  const backoff = new Backoff({ baseMs: 100, maxMs: 1000, maxTries: 7 }, () => 1);
  const waits = [];
  for (let tries = 1; tries <= 7; tries += 1) {
    backoff.countTry();
    waits.push(backoff.nextDelay());
  }
  assert.deepEqual(waits, [100, 200, 400, 800, 1000, 1000, undefined]);
  backoff.reset();
  backoff.countTry();
  assert.equal(backoff.tries, 1);
  assert.equal(backoff.nextDelay(), 100);
});

test('the wait is any part of that, so that clients come back one by one', () => {
  for (const random of [0, 0.25, 0.999]) {
    const backoff = new Backoff({ baseMs: 100, maxMs: 1000, maxTries: Infinity }, () => random);
    backoff.countTry();
    backoff.countTry();
    assert.equal(backoff.nextDelay(), 200 * random);
  }
  const patient = new Backoff({ baseMs: 1, maxMs: 30_000, maxTries: Infinity }, () => 1);
  for (let tries = 1; tries <= 5000; tries += 1) patient.countTry();
  assert.equal(patient.nextDelay(), 30_000);
});

test('a setting that makes no sense is named, with what is accepted', async () => {
  const good: RelayClientOptions = {
    url: 'ws://127.0.0.1:1/ws',
    identity: await identityIn('challenge', ALICE),
  };
  const { identity } = good;
  assert.ok(identity.mode === 'challenge');
  const shortKey = { ...identity.signer, publicKey: new Uint8Array(31) };
  const cases: readonly [Partial<RelayClientOptions>, string][] = [
    [{ url: 'relay' }, 'url'],
    [{ url: 'http://relay/ws' }, 'url'],
    [{ url: 'ws://relay/ws#here' }, 'url'],
    [{ url: 'ws://me:secret@relay/ws' }, 'url'],
    [{ identity: { mode: 'open', address: 'alice' } }, 'identity.address'],
    [{ identity: { ...identity, host: '' } }, 'identity.host'],
    [{ identity: { ...identity, host: 'a@b' } }, 'identity.host'],
    [{ identity: { ...identity, signer: shortKey } }, 'identity.signer.publicKey'],
    [{ dialTimeoutMs: 0 }, 'dialTimeoutMs'],
    [{ joinTimeoutMs: -1 }, 'joinTimeoutMs'],
    [{ heartbeatIntervalMs: Number.NaN }, 'heartbeatIntervalMs'],
    [{ heartbeatTimeoutMs: Infinity }, 'heartbeatTimeoutMs'],
    [{ closeTimeoutMs: 2 ** 31 }, 'closeTimeoutMs'],
    [{ stableAfterMs: 0 }, 'stableAfterMs'],
    [{ backoffBaseMs: 31_000 }, 'backoffBaseMs'],
    [{ maxTries: 0 }, 'maxTries'],
    [{ maxUnconfirmedBytes: 65_535 }, 'maxUnconfirmedBytes'],
    [{ maxUnconfirmedCount: 0 }, 'maxUnconfirmedCount'],
  ];
  for (const [changes, setting] of cases) {
    assert.throws(
      () => new RelayClient({ ...good, ...changes }),
      (error) => error instanceof ConfigError && error.setting === setting && error.message.includes('expected'),
      setting,
    );
  }
  assert.equal(complete({ ...good, maxTries: Infinity }).maxTries, Infinity);
});

test('an error about a URL does not repeat a password', async () => {
  const identity = await identityIn('open', ALICE);
  const urls = [
    'ws://me:secret@relay/ws',
    'ws://me:secret@relay:99999/ws?a=b',
    'http://me:secret@relay',
    'ws://secret@relay/#b',
    'me:secret@relay',
    'ws://me:se/secret@[::1',
  ];
  for (const url of urls) {
    assert.throws(
      () => complete({ url, identity }),
      (error) => error instanceof ConfigError && error.setting === 'url' && !error.message.includes('secret'),
      url,
    );
  }
});

test('in open mode, the URL says who comes', async () => {
  const identity = await identityIn('open', ALICE);
  const { url } = complete({ url: new URL('wss://relay.example.com/ws?a=b'), identity });
  assert.equal(url, `wss://relay.example.com/ws?a=b&address=${encodeURIComponent(ALICE.name).replaceAll('%20', '+')}`);
  assert.equal(new URL(url).searchParams.get('address'), ALICE.name);
});
