// What a client leaves behind in the runtime that PINCH_RUNTIME names: nothing.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type IncomingMessage, createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { type WebSocket, WebSocketServer } from 'ws';

import { Inbox, LIMIT_MS, soon } from '../support/inbox.js';
import { HOST, Relay, programIn } from '../support/relay.js';
import { ALICE } from '../support/agents.js';

const VISITOR = fileURLToPath(new URL('../support/visitor.js', import.meta.url));
const EXAMPLE = fileURLToPath(new URL('../../example/hello.js', import.meta.url));

/** A relay in open mode of which the test says what it does with who has joined. */
class HangingRelay {
  /** The sockets of those that have joined, in order. */
  readonly joined = new Inbox<{ readonly raw: Socket; readonly socket: WebSocket }>();
  readonly #server = createServer();

  static async start(context: TestContext): Promise<HangingRelay> {
    const relay = new HangingRelay();
    const upgrades = new WebSocketServer({ noServer: true });
    relay.#server.on('upgrade', (request: IncomingMessage, raw: Socket, head: Buffer) => {
      context.after(() => raw.destroy());
      upgrades.handleUpgrade(request, raw, head, (socket) => {
        // The first heartbeat comes back, and nothing else ever.
        socket.once('message', (heartbeat: Buffer) => {
          socket.send(heartbeat);
          raw.removeAllListeners('data').resume();
          relay.joined.push({ raw, socket });
        });
      });
    });
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    context.after(() => relay.#server.close());
    return relay;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/ws`;
  }
}

/** A program in that runtime, and what it prints. */
class Program {
  readonly exit: Promise<unknown[]>;
  #output = '';

  constructor(context: TestContext, runtime: string, args: readonly string[]) {
    const child: ChildProcess = spawn(runtime, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
    this.exit = once(child, 'close');
    context.after(() => child.kill('SIGKILL'));
  }

  /** What it has printed, once it has ended by itself. */
  async output(): Promise<string[]> {
    const [code] = await soon('the end of the program', this.exit);
    assert.equal(code, 0, this.#output);
    return this.#output.trim().split('\n').map((line) => line.trim());
  }
}

function runtimeTest(name: string, run: (context: TestContext, runtime: string) => Promise<void>): void {
  test(name, { timeout: 3 * LIMIT_MS }, async (context) => {
    const runtime = programIn('PINCH_RUNTIME', context);
    if (runtime !== undefined) await run(context, runtime);
  });
}

runtimeTest('a link that is given up leaves no socket, and a client that has left no process', async (context, runtime) => {
  const relay = await HangingRelay.start(context);
  const program = new Program(context, runtime, [VISITOR, relay.url]);
  let hasEnded = false;
  void program.exit.then(() => (hasEnded = true));
  for (let link = 1; link <= 3; link += 1) {
    const { raw } = await relay.joined.next('a join');
    if (!raw.destroyed) await soon('the end of the socket', once(raw, 'close'));
    // It is not the end of the process that has closed it.
    if (link < 3) assert.ok(!hasEnded);
  }
  const lost = 'disconnected heartbeat-timeout';
  assert.deepEqual(await program.output(), ['joined', lost, 'joined', lost, 'joined', 'closed', 'left']);
});

runtimeTest('a message that no relay sends is not read to its end', async (context, runtime) => {
  const relay = await HangingRelay.start(context);
  const program = new Program(context, runtime, [VISITOR, relay.url]);
  for (let link = 1; link <= 2; link += 1) {
    const { socket } = await relay.joined.next('a join');
    socket.send(new Uint8Array(link * (1 << 21)));
  }
  const lost = 'disconnected message-too-large';
  assert.deepEqual(await program.output(), ['joined', lost, 'joined', lost, 'joined', 'closed', 'left']);
});

runtimeTest('a rejected upgrade ends the tries, or does not', async (context, runtime) => {
  const statuses = [503, 429, 404];
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  server.on('upgrade', (_request, raw: Socket) => {
    const status = statuses.shift() ?? 500;
    raw.on('error', () => {});
    raw.end(`HTTP/1.1 ${status} Status\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno!\n`);
  });
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
  const program = new Program(context, runtime, [VISITOR, url]);
  const lost = 'disconnected upgrade-rejected';
  assert.deepEqual(await program.output(), [lost, lost, 'gave-up upgrade-rejected']);
});

runtimeTest('a dial that is given up leaves no socket and no process', async (context, runtime) => {
  const sockets = new Inbox<Socket>();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  // Nobody answers the upgrade.
  server.on('upgrade', (_request, raw: Socket) => {
    raw.on('error', () => {}).on('end', () => raw.end());
    sockets.push(raw.resume());
  });
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
  const program = new Program(context, runtime, [VISITOR, url, '1000']);
  const first = await sockets.next('a dial');
  if (!first.destroyed) await soon('the end of the socket', once(first, 'close'));
  assert.deepEqual(await program.output(), ['disconnected dial-timeout', 'gave-up dial-timeout']);
});

runtimeTest('the example runs against a relay, and ends by itself', async (context, runtime) => {
  const relayProgram = programIn('PINCH_RELAY', context);
  if (relayProgram === undefined) return;
  for (const mode of ['challenge', 'open'] as const) {
    const relay = await Relay.start(context, relayProgram, { mode });
    const program = new Program(context, runtime, [EXAMPLE, relay.url, mode === 'open' ? ALICE.name : HOST]);
    const [joined, hello, closed] = await program.output();
    assert.deepEqual([joined, closed], ['joined', 'closed']);
    assert.match(hello ?? '', /^hello, pinch:/);
  }
});
