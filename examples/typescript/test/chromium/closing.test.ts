// The browser's own WebSocket in short sessions. A browser discards what comes after a page has
// closed, so its close acknowledges nothing; the pongs of the browser do. PINCH_RELAY names the
// relay's program, PINCH_CHROMIUM the browser's.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { RelayClient } from 'pinch-relay-client';

import type { ClosingReport, ClosingTask } from './closing.js';
import { ALICE, BOB, identityIn } from '../support/agents.js';
import { Chromium, Pages } from '../support/browser.js';
import { LIMIT_MS, soon } from '../support/inbox.js';
import { Relay, programIn } from '../support/relay.js';

const WAITING = [1, 2, 3, 4, 5];

test('what waits for a page that closes at once is never lost', { timeout: 3 * LIMIT_MS }, async (context) => {
  const program = programIn('PINCH_RELAY', context);
  const browser = programIn('PINCH_CHROMIUM', context);
  if (program === undefined || browser === undefined) return;
  const folder = await mkdtemp(join(tmpdir(), 'pinch-closing-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const pages = await Pages.start(context, 'closing');
  const flags = ['--allowed-origins', pages.origin, '--db', join(folder, 'queue.db')];
  const relay = await Relay.start(context, program, { mode: 'open', flags });

  const alice = new RelayClient({ url: relay.url, identity: await identityIn('open', ALICE) });
  context.after(() => alice.disconnect());
  await soon('the join of Alice', alice.connect());
  for (const number of WAITING) {
    alice.sendEnvelope({ toAddress: BOB.name, type: 4, messageId: Uint8Array.of(number) });
  }
  await soon('the relay to have it', alice.flush());
  await soon('the end of Alice', alice.disconnect());

  const url = `${relay.url}?address=${encodeURIComponent(BOB.name)}`;
  pages.tasks = { url, bob: BOB.name, waiting: WAITING.length } satisfies ClosingTask;
  const chromium = await Chromium.start(context, browser, pages.origin);
  const sessions = (await pages.report(chromium)) as ClosingReport;

  assert.ok(Array.isArray(sessions), JSON.stringify(sessions));
  // All of it first; then, again, what no pong acknowledged, up to the last; in the end, nothing.
  assert.deepEqual(sessions[0], WAITING);
  for (const [at, again] of sessions.slice(1).entries()) {
    assert.deepEqual(again, WAITING.slice(WAITING.length - again.length), JSON.stringify(sessions));
    assert.ok(again.length <= (sessions[at]?.length ?? 0), JSON.stringify(sessions));
  }
});
