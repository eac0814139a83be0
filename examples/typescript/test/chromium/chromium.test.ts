// The client in a real browser, which tells the relay where its page comes from: with the origin on
// the relay's list, and not. PINCH_RELAY names the relay's program, PINCH_CHROMIUM the browser's.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RelayClient, encodeEnvelope } from 'pinch-relay-client';

import type { Report, Task } from './page.js';
import { ALICE, BOB, identityIn } from '../support/agents.js';
import { Chromium, Pages } from '../support/browser.js';
import { LIMIT_MS, Watch, soon } from '../support/inbox.js';
import { HOST, Relay, programIn } from '../support/relay.js';

test('a page joins where its origin is allowed, and nowhere else', { timeout: 3 * LIMIT_MS }, async (context) => {
  const program = programIn('PINCH_RELAY', context);
  const browser = programIn('PINCH_CHROMIUM', context);
  if (program === undefined || browser === undefined) return;
  const pages = await Pages.start(context, 'page');
  const allowed = [[], ['--allowed-origins', 'https://elsewhere.example.com'], ['--allowed-origins', pages.origin]];

  const tasks: Task[] = [];
  const arrivals: Promise<readonly number[]>[] = [];
  const answers: (readonly number[])[] = [];
  for (const flags of [...allowed, ['--allowed-origins', '*']]) {
    const relay = await Relay.start(context, program, { mode: 'challenge', flags });
    // Bob is no browser, so he is let in everywhere: whoever is refused is so for the origin.
    const bob = new RelayClient({ url: relay.url, identity: await identityIn('challenge', BOB) });
    context.after(() => bob.disconnect());
    const watch = new Watch(bob);
    await soon('the join of Bob', bob.connect());
    const isAllowed = flags.includes(pages.origin) || flags.includes('*');
    tasks.push({
      relay: relay.url,
      host: HOST,
      seed: [...ALICE.seed],
      signer: flags.includes('*') ? 'noble' : 'webCrypto',
      bob: BOB.proven,
    });
    if (!isAllowed) continue;
    const routing = { version: 1, fromAddress: BOB.proven, toAddress: ALICE.proven, type: 4 };
    const answer = encodeEnvelope({ ...routing, messageId: Uint8Array.of(tasks.length), timestamp: -1n });
    answers.push([...answer]);
    arrivals.push(
      watch.arrival().then(({ bytes }) => {
        bob.sendEnvelope(answer);
        return [...bytes];
      }),
    );
  }
  pages.tasks = tasks;
  const chromium = await Chromium.start(context, browser, pages.origin);
  const reports = (await pages.report(chromium)) as readonly Report[];

  assert.ok(Array.isArray(reports), JSON.stringify(reports));
  for (const report of reports.slice(0, 2)) {
    assert.ok(report.outcome === 'refused', JSON.stringify(report));
    assert.equal(report.fault, 'dial-failed');
    assert.match(report.message, /--allowed-origins/);
  }
  for (const [at, report] of reports.slice(2).entries()) {
    assert.ok(report.outcome === 'exchanged', JSON.stringify(report));
    assert.equal(report.address, ALICE.proven);
    assert.deepEqual(await arrivals[at], report.sentToBob);
    assert.deepEqual(report.fromBob, answers[at]);
    assert.deepEqual(report.fromSelf, report.sentToSelf);
  }
  assert.equal(reports.length, 4);
});
