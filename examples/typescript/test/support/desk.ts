/** A client whose relay, network and clock are the test. */

import {
  type Envelope,
  MessageType,
  type Payload,
  RelayClient,
  type RelayClientOptions,
  encodeEnvelope,
} from 'pinch-relay-client';

import { BOB } from './agents.js';
import { FakeClock, FakeNetwork, type FakeSocket } from './fakes.js';
import { Watch } from './inbox.js';

/** Whom the client of a desk is. */
export const ME = 'pinch:me@example.com';

/** A client in open mode, all that is around it, and what it tells. */
export class Desk {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork();
  readonly client: RelayClient;
  readonly watch: Watch;

  constructor(options: Partial<RelayClientOptions> = {}) {
    this.client = new RelayClient({
      url: 'ws://relay.example.com/ws',
      identity: { mode: 'open', address: ME },
      openWebSocket: this.network.open,
      clock: this.clock,
      random: () => 1,
      ...options,
    });
    this.watch = new Watch(this.client);
  }

  /** Joins, for the first time. */
  async join(): Promise<FakeSocket> {
    const connected = this.client.connect();
    const socket = await this.admit();
    await connected;
    return socket;
  }

  /** Lets the client in that dials, and takes the event. */
  async admit(): Promise<FakeSocket> {
    const socket = await this.network.socket();
    socket.emit('open');
    socket.echo();
    await this.watch.event('joined');
    return socket;
  }

  /** Whether nothing is left that could still do something. */
  isAtRest(socket?: FakeSocket): boolean {
    return this.clock.pending === 0 && (socket === undefined || socket.listeners === 0);
  }
}

/** An envelope to the client of a desk. */
export function toMe(payload?: Payload, type: number = MessageType.Message): Envelope {
  const routing = { version: 1, fromAddress: BOB.name, toAddress: ME, type };
  const envelope = { ...routing, messageId: Uint8Array.of(1, 2, 3), timestamp: 5n };
  return payload === undefined ? envelope : { ...envelope, payload };
}

/** An envelope from the client of a desk, of this length. */
export function fromMe(length: number, number = 0): Uint8Array {
  const routing = {
    version: 1,
    fromAddress: ME,
    toAddress: BOB.name,
    type: MessageType.Message,
    timestamp: 5n,
  };
  const sized = (ciphertext: number): Uint8Array => {
    const empty = new Uint8Array();
    return encodeEnvelope({
      ...routing,
      messageId: Uint8Array.of(number),
      payload: {
        kind: 'encrypted',
        nonce: empty,
        ciphertext: new Uint8Array(ciphertext),
        senderPublicKey: empty,
      },
    });
  };
  const envelope = sized(length);
  // What is around the ciphertext goes off it; the lengths before it may then get shorter, too.
  for (let around = envelope.length - length; around > 0; around -= 1) {
    const smaller = sized(length - around);
    if (smaller.length === length) return smaller;
  }
  throw new Error(`no envelope has ${length} bytes`);
}
