/** A headless Chromium with one page on loopback, which is served as it was compiled. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

import { Inbox, soon } from './inbox.js';

/** Where `dist` and `node_modules` are. */
const PACKAGE = new URL('../../../', import.meta.url);

/** A page that runs the compiled `test/chromium/<name>.js`. */
const html = (name: string): string => `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script type="importmap">{"imports": {
  "pinch-relay-client": "/dist/src/index.js",
  "@noble/ed25519": "/node_modules/@noble/ed25519/index.js",
  "@noble/hashes/": "/node_modules/@noble/hashes/"
}}</script>
<script type="module">
  addEventListener('unhandledrejection', ({ reason }) => fetch('/report', {
    method: 'POST', body: JSON.stringify({ failure: String(reason) }),
  }));
  import('/dist/test/chromium/${name}.js').catch((error) => Promise.reject(error));
</script>
`;

/** Nothing of these is needed for one page, and some would look for servers on the internet. */
const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-breakpad',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-domain-reliability',
  '--disable-extensions',
  '--disable-features=OptimizationHints,MediaRouter,Translate',
  '--disable-sync',
  '--metrics-recording-only',
  '--no-default-browser-check',
  '--no-first-run',
  '--no-proxy-server',
  '--password-store=basic',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

/** The server of the page, and its origin. */
export class Pages {
  readonly #server: Server;
  readonly #html: string;
  readonly #reports = new Inbox<unknown>();
  /** What the page asks for. */
  tasks: unknown = [];

  private constructor(name: string) {
    this.#html = html(name);
    this.#server = createServer((incoming, response) => {
      this.#serve(incoming, response).catch((error: unknown) => {
        response.writeHead(404).end(String(error));
      });
    });
  }

  static async start(context: TestContext, name: string): Promise<Pages> {
    const pages = new Pages(name);
    pages.#server.listen(0, '127.0.0.1');
    await once(pages.#server, 'listening');
    context.after(() => {
      pages.#server.closeAllConnections();
      pages.#server.close();
    });
    return pages;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What the page reports, if Chromium lives long enough. */
  async report(chromium: Chromium): Promise<unknown> {
    return Promise.race([this.#reports.next(`the page in Chromium, which says:\n${chromium.log}`), chromium.failure]);
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(incoming.url ?? '/', this.origin).pathname;
    if (path === '/report') {
      let body = '';
      for await (const chunk of incoming.setEncoding('utf8')) body += chunk;
      response.end();
      this.#reports.push(JSON.parse(body));
    } else if (path === '/') {
      response.writeHead(200, { 'content-type': 'text/html' }).end(this.#html);
    } else if (path === '/tasks') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(this.tasks));
    } else if (/^\/(dist|node_modules)\/.*\.js$/.test(path)) {
      const source = await readFile(new URL(`.${path}`, PACKAGE));
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(source);
    } else {
      throw new Error(`there is no ${path}`);
    }
  }
}

/** A browser, killed when the test is over. */
export class Chromium {
  /** What it wrote to stderr. */
  log = '';
  /** Rejects when it ends by itself. */
  readonly failure: Promise<never>;
  readonly #child: ChildProcess;

  private constructor(program: string, profile: string, url: string) {
    const environment = { PATH: process.env['PATH'], HOME: profile, TMPDIR: profile };
    this.#child = spawn(program, [...FLAGS, `--user-data-dir=${profile}`, url], {
      cwd: profile,
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.log += text));
    this.failure = once(this.#child, 'exit').then(([code]) => {
      throw new Error(`Chromium ended with ${String(code)}:\n${this.log}`);
    });
    // The end is no failure once nobody waits any more.
    this.failure.catch(() => {});
  }

  static async start(context: TestContext, program: string, url: string): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), 'pinch-chromium-'));
    const chromium = new Chromium(program, profile, url);
    context.after(async () => {
      await chromium.#end();
      await rm(profile, { recursive: true, force: true, maxRetries: 10 });
    });
    return chromium;
  }

  async #end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    // Asked to, it ends its own children first.
    this.#child.kill('SIGTERM');
    try {
      await soon('the end of Chromium', exit);
    } finally {
      this.#child.kill('SIGKILL');
    }
  }
}
