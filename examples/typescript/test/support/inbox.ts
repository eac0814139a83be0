/** What happens to a client, in order, for tests that wait for it. */

import type { Envelope, RelayClient, RelayEvent } from 'pinch-relay-client';

/** What takes longer than this has gone wrong. */
export const LIMIT_MS = 20_000;

/** Waits for `promise`, but not for ever. */
export async function soon<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), LIMIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A queue of which one side waits for what the other puts in. */
export class Inbox<T> {
  readonly #items: T[] = [];
  #wake: () => void = () => {};

  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  /** Takes out all that is there. */
  drain(): T[] {
    return this.#items.splice(0);
  }

  async next(what: string): Promise<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) return item;
      await soon(what, new Promise<void>((resolve) => (this.#wake = resolve)));
    }
  }
}

/** An envelope as it came. */
export interface Arrival {
  readonly envelope: Envelope;
  readonly bytes: Uint8Array;
}

/** Listens to a client. */
export class Watch {
  readonly arrivals = new Inbox<Arrival>();
  readonly events = new Inbox<RelayEvent>();

  constructor(client: RelayClient) {
    client.onEnvelope((envelope, bytes) => this.arrivals.push({ envelope, bytes }));
    client.onEvent((event) => this.events.push(event));
  }

  /** The next event, which has to be of this type. */
  async event<Type extends RelayEvent['type']>(type: Type): Promise<Extract<RelayEvent, { type: Type }>> {
    const event = await this.events.next(`the event ${type}`);
    if (event.type !== type) throw new Error(`the event ${event.type} came instead of ${type}: ${describe(event)}`);
    return event as Extract<RelayEvent, { type: Type }>;
  }

  arrival(): Promise<Arrival> {
    return this.arrivals.next('an envelope');
  }
}

function describe(event: RelayEvent): string {
  return 'error' in event ? event.error.message : '';
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export function unhex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
}
