/** The platform's WebSocket, or that of the package `ws` where the platform has none. */

/** What is needed of a WebSocket: that of browsers, of Node 22, and of `ws` have it. */
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
  closed(end: SocketEnd): void;
}

/** How a socket ended. */
export interface SocketEnd {
  readonly code: number;
  readonly reason: string;
  /** What the platform says of an error; browsers say nothing. */
  readonly detail: string;
}

/** Larger than whatever a relay sends. */
const MAX_MESSAGE_BYTES = 1 << 20;

/** Opens a WebSocket by what the platform has. */
export async function openWebSocket(url: string): Promise<WebSocketLike> {
  if (typeof globalThis.WebSocket === 'function') return new globalThis.WebSocket(url) as unknown as WebSocketLike;
  const { WebSocket } = await import('ws');
  return new WebSocket(url, {
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
  }) as unknown as WebSocketLike;
}

/** A WebSocket and who listens to it, until it is closed or dropped. */
export class Socket {
  readonly #socket: WebSocketLike;
  readonly #listeners: Readonly<Record<WebSocketEvent, (event: object) => void>>;
  #isOpen = false;
  #isOver = false;
  #detail = 'the platform does not say why';

  constructor(socket: WebSocketLike, listener: SocketListener) {
    const end = (event: object): void => {
      this.#detach();
      listener.closed({
        code: Number(property(event, 'code') ?? 1006),
        reason: String(property(event, 'reason') ?? ''),
        detail: this.#detail,
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
        listener.received(data instanceof ArrayBuffer ? new Uint8Array(data) : undefined);
      },
      error: (event) => {
        const message = property(event, 'message');
        if (typeof message === 'string' && message !== '') this.#detail = message;
        // The first WebSocket of Node closes without a word when the upgrade is refused.
        if (!this.#isOpen && !this.#isOver) end({});
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
