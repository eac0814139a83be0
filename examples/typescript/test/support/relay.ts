/** The relay's program, in a process of its own that ends with the test. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';

import { soon } from './inbox.js';

/** The host of the addresses at the relays that tests start. */
export const HOST = 'test.relay.example.com';

/** How a relay is started here. */
export interface RelayOptions {
  readonly mode: 'challenge' | 'open';
  readonly flags?: readonly string[];
  /** Default: whichever is free. */
  readonly port?: number;
}

/** The program that the environment `variable` names; where it names none, `context`'s test is skipped. */
export function programIn(variable: string, context: TestContext): string | undefined {
  const program = process.env[variable];
  if (program === undefined) {
    if (process.env['CI']) throw new Error(`${variable} has to name a program`);
    context.skip(`${variable} names no program`);
  }
  return program;
}

/** A relay that listens. */
export class Relay {
  /** What it wrote to stderr. */
  log = '';
  readonly #child: ChildProcess;
  #url = '';

  private constructor(program: string, { mode, flags = [], port = 0 }: RelayOptions) {
    const settings = ['--listen', `127.0.0.1:${port}`, '--public-host', HOST, '--auth', mode];
    const quiet = ['--rate-limit', 'off', '--join-rate', 'off', ...(flags.includes('--db') ? [] : ['--db', 'none'])];
    this.#child = spawn(program, [...settings, ...quiet, ...flags], { env: {}, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.log += text));
  }

  /** Starts one, which is killed when the test is over. */
  static async start(context: TestContext, program: string, options: RelayOptions): Promise<Relay> {
    const relay = new Relay(program, options);
    context.after(() => relay.end('SIGKILL'));
    let output = '';
    const child = relay.#child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('\n')) child.emit('line');
    });
    await soon('the first line of the relay', Promise.race([once(child, 'line'), once(child, 'exit')]));
    const [, url] = /^listening on (ws:\S+)\n/.exec(output) ?? [];
    if (url === undefined) throw new PortError(`the relay does not listen: ${output}${relay.log}`);
    relay.#url = url;
    return relay;
  }

  /** Starts one where another was: the port may be taken until that has quite gone. */
  static async startAgain(context: TestContext, program: string, options: RelayOptions): Promise<Relay> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await Relay.start(context, program, options);
      } catch (error) {
        if (!(error instanceof PortError) || tries === 100) throw error;
      }
    }
  }

  /** Where clients connect. */
  get url(): string {
    return this.#url;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** The URL of another path of the same port. */
  http(path: string): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** How many connections it says it has. */
  async connections(): Promise<number> {
    const response = await fetch(this.http('/health'));
    const health = (await response.json()) as { status: string; connections: number };
    if (health.status !== 'ok') throw new Error(JSON.stringify(health));
    return health.connections;
  }

  /** Waits until it has this many connections. */
  async hasConnections(expected: number): Promise<void> {
    const settled = async (): Promise<void> => {
      while ((await this.connections()) !== expected);
    };
    await soon(`${expected} connections`, settled());
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it by this signal, and waits until it has ended. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    await soon('the end of the relay', exit);
  }
}

class PortError extends Error {}
