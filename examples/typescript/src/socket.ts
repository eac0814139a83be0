/** The WebSocket of browsers, or that of the package `ws` in Node, Bun and Deno. */

import { type Rejection, readRejection } from './rejection.js';

/** What is needed of a WebSocket: that of browsers and that of `ws` have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: Uint8Array): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: WebSocketEvent, listener: (event: object) => void): void;
  removeEventListener(type: WebSocketEvent, listener: (event: object) => void): void;
  /** Only `ws` has it: ends the connection at once. */
  terminate?(): void;
}

type WebSocketEvent = 'open' | 'message' | 'error' | 'close';

/** What a socket tells. After `closed` there is nothing more. */
export interface SocketListener {
  opened(): void;
  /** A binary message, or `undefined` for any other. */
  received(message: Uint8Array | undefined): void;
  /** A message came that is larger than any of a relay. */
  oversized(): void;
  closed(end: SocketEnd): void;
}

/** How a socket ended. */
export interface SocketEnd {
  readonly code: number;
  readonly reason: string;
  /** What the platform says of an error; browsers say nothing. */
  readonly detail: string;
  /** The answer to the upgrade, if there was one and the platform shows it. */
  readonly rejection?: Rejection | undefined;
}

/** Maximum size of a message that is read: more than a relay sends. */
export const MAX_MESSAGE_BYTES = 1 << 20;

/**
 * Opens a WebSocket: that of the package `ws` where programs have a process, else the platform's.
 *
 * The one that Node has since version 22 cannot be dropped: after `close()` it waits for the other
 * end, and keeps socket and process if that is gone. Neither does it limit what it reads.
 */
export async function openWebSocket(url: string): Promise<WebSocketLike> {
  if (!hasProcess()) return new globalThis.WebSocket(url) as unknown as WebSocketLike;
  const { WebSocket } = await import('ws');
  const socket = new WebSocket(url, { maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });
  socket.on('unexpected-response', (_request, response) => {
    void readRejection(response).then((rejection) => {
      const message = `Unexpected server response: ${rejection.status}`;
      socket.emit('error', Object.assign(new Error(message), { rejection }));
    });
  });
  return socket as unknown as WebSocketLike;
}

/** Whether this is Node, Bun or Deno. */
function hasProcess(): boolean {
  return typeof process === 'object' && typeof process.versions?.node === 'string';
}

/** A WebSocket and who listens to it, until it is closed or dropped. */
export class Socket {
  readonly #socket: WebSocketLike;
  readonly #listeners: Readonly<Record<WebSocketEvent, (event: object) => void>>;
  #isOpen = false;
  #isOver = false;
  #detail = 'the platform does not say why';

  constructor(socket: WebSocketLike, listener: SocketListener) {
    const end = (event: object, rejection?: Rejection): void => {
      this.#detach();
      listener.closed({
        code: Number(property(event, 'code') ?? 1006),
        reason: String(property(event, 'reason') ?? ''),
        detail: this.#detail,
        rejection,
      });
    };
    this.#socket = socket;
    this.#listeners = {
      open: () => {
        this.#isOpen = true;
        listener.opened();
      },
      message: (event) => {
        const data = property(event, 'data');
        if (data instanceof ArrayBuffer && data.byteLength > MAX_MESSAGE_BYTES) listener.oversized();
        else listener.received(data instanceof ArrayBuffer ? new Uint8Array(data) : undefined);
      },
      error: (event) => {
        if (this.#isOver) return;
        const message = property(event, 'message');
        if (typeof message === 'string' && message !== '') this.#detail = message;
        const error = property(event, 'error') ?? {};
        if (property(error, 'code') === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') listener.oversized();
        // What cannot be opened may stay without a `close`.
        else if (!this.#isOpen) end({}, property(error, 'rejection') as Rejection | undefined);
      },
      close: (event) => end(event),
    };
    socket.binaryType = 'arraybuffer';
    for (const [type, listen] of this.#entries()) socket.addEventListener(type, listen);
  }

  /** How many bytes were sent and have not left. */
  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(message: Uint8Array): void {
    this.#socket.send(message);
  }

  /** Says goodbye; `closed` follows once the relay has answered. */
  close(): void {
    this.#socket.close(1000);
  }

  /** Ends it, whatever its state, and tells nothing more. */
  drop(): void {
    this.#detach();
    if (this.#socket.terminate !== undefined) this.#socket.terminate();
    else this.#socket.close();
  }

  #detach(): void {
    this.#isOver = true;
    // Not the one for errors: one that nobody listens to would end the process in Node.
    for (const [type, listen] of this.#entries()) {
      if (type !== 'error') this.#socket.removeEventListener(type, listen);
    }
  }

  #entries(): [WebSocketEvent, (event: object) => void][] {
    return Object.entries(this.#listeners) as [WebSocketEvent, (event: object) => void][];
  }
}

function property(event: object, name: string): unknown {
  return (event as Readonly<Record<string, unknown>>)[name];
}
