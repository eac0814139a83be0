/** What the tests with a real relay have in common: that whose program PINCH_RELAY names. */

import { type TestContext, test } from 'node:test';

import { RelayClient, type RelayClientOptions } from 'pinch-relay-client';

import { type Agent, identityIn } from './agents.js';
import { LIMIT_MS, Watch, soon } from './inbox.js';
import { type Relay, type RelayOptions, programIn } from './relay.js';

const MODES = ['challenge', 'open'] as const;

/** A test with a relay's program; the name tells which one in the output. */
export function relayTest(name: string, run: (context: TestContext, program: string) => Promise<void>): void {
  test(name, { timeout: 3 * LIMIT_MS }, async (context) => {
    const program = programIn('PINCH_RELAY', context);
    if (program !== undefined) await run(context, program);
  });
}

/** The same test in both modes. */
export function inBothModes(
  name: string,
  run: (context: TestContext, program: string, mode: RelayOptions['mode']) => Promise<void>,
): void {
  for (const mode of MODES) relayTest(`${name} (${mode} mode)`, (context, program) => run(context, program, mode));
}

/** A client that leaves when the test is over, and what happens to it. */
export async function client(
  context: TestContext,
  relay: Relay,
  mode: RelayOptions['mode'],
  agent: Agent,
  options: Partial<RelayClientOptions> = {},
): Promise<{ client: RelayClient; watch: Watch }> {
  const identity = await identityIn(mode, agent);
  const made = new RelayClient({ url: relay.url, identity, ...options });
  context.after(() => made.disconnect());
  return { client: made, watch: new Watch(made) };
}

export async function joined(...args: Parameters<typeof client>): ReturnType<typeof client> {
  const made = await client(...args);
  await soon('the join', made.client.connect());
  await made.watch.event('joined');
  return made;
}
