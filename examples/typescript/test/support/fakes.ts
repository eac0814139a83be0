/** A clock that stands still until it is told to go on, and a WebSocket whose other end is the test. */

import { type Clock, type Envelope, type WebSocketLike, decodeEnvelope, encodeEnvelope } from 'pinch-relay-client';

import { Inbox } from './inbox.js';

/** Added to each timeout of a second or more: in it, what came during a pause is read. */
export const GRACE_MS = 500;

/** Time that passes when a test says so. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.length;
  }

  /** The process stands still: what becomes due is called later. */
  pause(ms: number): void {
    this.#now += ms;
  }

  /** Lets time pass; what becomes due is called in its order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [first] = this.#timers.filter(({ at }) => at <= end).sort((left, right) => left.at - right.at);
      if (first === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== first);
      this.#now = Math.max(this.#now, first.at);
      first.callback();
    }
    this.#now = end;
  }
}

type Listener = (event: object) => void;

/** A WebSocket. What the client does to it can be looked at; what the relay does, the test says. */
export class FakeSocket implements WebSocketLike {
  binaryType = 'blob';
  bufferedAmount = 0;
  readonly sent: Uint8Array[] = [];
  closedWith: number | undefined;
  isDropped = false;
  /** Called after each message that is sent. */
  onSend: () => void = () => {};
  readonly #listeners = new Map<string, Set<Listener>>();

  constructor(
    readonly url: string,
    private readonly onListened: (socket: FakeSocket) => void,
  ) {}

  send(data: Uint8Array): void {
    this.sent.push(data);
    this.onSend();
  }

  close(code?: number): void {
    if (code === undefined) this.isDropped = true;
    this.closedWith ??= code;
  }

  addEventListener(type: string, listener: Listener): void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    if (type === 'close') this.onListened(this);
  }

  removeEventListener(type: string, listener: Listener): void {
    this.#listeners.get(type)?.delete(listener);
  }

  /** How many listeners there are of what comes; one of errors may stay. */
  get listeners(): number {
    return ['open', 'message', 'close'].reduce((sum, type) => sum + (this.#listeners.get(type)?.size ?? 0), 0);
  }

  emit(type: string, event: object = {}): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }

  /** A message comes: an envelope, bytes, or text. */
  receive(message: Envelope | Uint8Array | string): void {
    if (typeof message === 'string') {
      this.emit('message', { data: message });
    } else {
      const bytes = message instanceof Uint8Array ? message : encodeEnvelope(message);
      this.emit('message', { data: Uint8Array.from(bytes).buffer });
    }
  }

  /** The relay, or the network, ends the connection. */
  end(code: number, reason = ''): void {
    this.emit('close', { code, reason });
  }

  /** The last envelope that was sent, which is handed back. */
  echo(): void {
    const bytes = this.sent.at(-1);
    if (bytes === undefined) throw new Error('nothing was sent');
    this.receive(bytes);
  }

  /** What was sent, decoded. */
  get envelopes(): Envelope[] {
    return this.sent.map(decodeEnvelope);
  }
}

/** Whatever a client dials. */
export class FakeNetwork {
  readonly dialled = new Inbox<FakeSocket>();

  readonly open = (url: string): FakeSocket => new FakeSocket(url, (socket) => this.dialled.push(socket));

  /** The next socket that a client opens, once it listens to it. */
  socket(): Promise<FakeSocket> {
    return this.dialled.next('a dial');
  }
}
