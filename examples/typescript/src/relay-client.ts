/** A client: one link after the other, and what its user sees of them. */

import { addressOf } from './address.js';
import { Backoff } from './backoff.js';
import { type Envelope, type SealedEnvelope, openEnvelope } from './envelope.js';
import { DisconnectedError, EnvelopeError, LinkError, type LinkFault, SendError, StateError } from './errors.js';
import { Link } from './link.js';
import { MAX_DELAY_MS, type RelayClientOptions, type Settings, complete } from './options.js';
import { type OutgoingEnvelope, toBytes } from './outgoing.js';

/** How far a client is. */
export type ClientState = 'idle' | 'connecting' | 'joined' | 'waiting' | 'leaving';

/** Something that happened to a client, told apart by `type`. */
export type RelayEvent =
  | {
      /** The client can be reached, for the first time or again. */
      readonly type: 'joined';
      readonly address: string;
    }
  | {
      /** The relay is out of reach, and will be tried again. */
      readonly type: 'disconnected';
      readonly error: LinkError;
      readonly retryInMs: number;
      /** What was sent on the link that broke and may not have arrived, in order. */
      readonly unconfirmed: readonly Uint8Array[];
    }
  | {
      /** The relay is out of reach, and will not be tried again. */
      readonly type: 'gave-up';
      readonly error: LinkError;
      readonly tries: number;
      readonly unconfirmed: readonly Uint8Array[];
    }
  | {
      /** `disconnect()` is done. */
      readonly type: 'closed';
      readonly unconfirmed: readonly Uint8Array[];
    }
  | {
      /** An envelope came whose payload is broken; that is its sender's fault, and the link lives on. */
      readonly type: 'unreadable';
      readonly error: EnvelopeError;
      readonly bytes: Uint8Array;
    };

/** Takes a listener off again. */
export type Unsubscribe = () => void;

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

/**
 * A client of a Pinch relay: it joins, stays joined, and comes back when the link is lost.
 *
 * An error that a listener throws does not disturb the client; it is reported as an uncaught one.
 */
export class RelayClient {
  readonly #settings: Settings;
  readonly #backoff: Backoff;
  readonly #envelopeListeners = new Set<(envelope: Envelope, bytes: Uint8Array) => void>();
  readonly #eventListeners = new Set<(event: RelayEvent) => void>();
  #state: ClientState = 'idle';
  #address: string;
  #link: Link | undefined;
  #joinedAt = 0;
  #cancelRetry: () => void = () => {};
  #connecting: Waiter<string>[] = [];
  #leaving: (() => void)[] = [];
  #flushing: (Waiter<void> & { readonly upTo: number })[] = [];

  /** @throws ConfigError if an option makes no sense. Nothing is opened yet. */
  constructor(options: RelayClientOptions) {
    this.#settings = complete(options);
    const { identity, backoffBaseMs, backoffMaxMs, maxTries, random } = this.#settings;
    this.#backoff = new Backoff({ baseMs: backoffBaseMs, maxMs: backoffMaxMs, maxTries }, random);
    this.#address = identity.mode === 'open' ? identity.address : addressOf(identity.signer.publicKey, identity.host);
  }

  /** This client's own address. With the first join, its host takes the spelling of the relay. */
  get address(): string {
    return this.#address;
  }

  get state(): ClientState {
    return this.#state;
  }

  /** How many bytes were sent and are not confirmed by the relay. */
  get unconfirmedBytes(): number {
    return this.#link?.unconfirmed.bytes ?? 0;
  }

  /**
   * Joins; from then on the client comes back by itself. Resolves to its address once it has joined.
   *
   * Rejects with the `LinkError` of the last try when the client gives up, with `DisconnectedError`
   * after `disconnect()`, and with `StateError` unless the client is idle.
   */
  connect(): Promise<string> {
    if (this.#state !== 'idle') {
      return Promise.reject(new StateError(`the client is ${this.#state}, expected idle; call disconnect() first`));
    }
    this.#backoff.reset();
    return new Promise((resolve, reject) => {
      this.#connecting.push({ resolve, reject });
      this.#dial();
    });
  }

  /**
   * Leaves, and resolves once everything is over: no timer, socket or try is left. The event
   * `closed` holds what the relay may not have got.
   */
  disconnect(): Promise<void> {
    if (this.#state === 'idle') return Promise.resolve();
    return new Promise((resolve) => {
      this.#leaving.push(resolve);
      if (this.#state === 'leaving') return;
      const wasWaiting = this.#state === 'waiting';
      this.#state = 'leaving';
      this.#cancelRetry();
      if (wasWaiting) this.#closed([]);
      else this.#link?.leave();
    });
  }

  /**
   * Sends an envelope, or bytes that are one, and returns its `messageId`.
   *
   * Nothing is queued while the client is not joined. What was sent counts as unconfirmed until a
   * heartbeat shows that the relay has it; what is unconfirmed when the link breaks is handed back
   * by the event. Whether the recipient has it is another question: the relay may refuse it, by an
   * envelope with the same `messageId` and the payload `queueFull` or `rateLimited`.
   *
   * @throws SendError if it was not sent.
   */
  sendEnvelope(envelope: OutgoingEnvelope | Uint8Array): Uint8Array {
    if (this.#link === undefined || this.#state !== 'joined') {
      throw new SendError({ kind: 'not-connected', state: this.#state });
    }
    const { bytes, messageId } = toBytes(envelope, this.#address);
    const { unconfirmed } = this.#link;
    if (!unconfirmed.hasRoomFor(bytes.length)) {
      throw new SendError({ kind: 'full', bytes: unconfirmed.bytes, count: unconfirmed.count });
    }
    this.#link.send(bytes);
    return messageId;
  }

  /**
   * Resolves once the relay has all that was sent so far; costs a heartbeat, if anything is
   * unconfirmed. Rejects with the `LinkError` if the link breaks before, with `DisconnectedError`
   * if the client leaves, and with `SendError` if it is not joined.
   */
  flush(): Promise<void> {
    const link = this.#link;
    if (link === undefined || this.#state !== 'joined') {
      return Promise.reject(new SendError({ kind: 'not-connected', state: this.#state }));
    }
    if (link.unconfirmed.count === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#flushing.push({ resolve, reject, upTo: link.unconfirmed.sent });
      link.probe();
    });
  }

  /**
   * Calls `listener` with every envelope that comes, and with its bytes, verbatim: those of other
   * clients, and what the relay says about yours. Only heartbeats to oneself are kept from it.
   *
   * A relay that keeps envelopes for those who are away may deliver one again after a link is lost.
   */
  onEnvelope(listener: (envelope: Envelope, bytes: Uint8Array) => void): Unsubscribe {
    return subscribe(this.#envelopeListeners, listener);
  }

  /** Calls `listener` with everything else that happens. */
  onEvent(listener: (event: RelayEvent) => void): Unsubscribe {
    return subscribe(this.#eventListeners, listener);
  }

  #dial(): void {
    this.#state = 'connecting';
    this.#backoff.countTry();
    const link = new Link(this.#settings, {
      joined: (address) => this.#joined(address),
      received: (envelope, bytes) => this.#received(envelope, bytes),
      confirmed: () => this.#confirmed(link),
      ended: (fault, unconfirmed) => this.#ended(fault, unconfirmed),
    });
    this.#link = link;
    void link.dial();
  }

  #joined(address: string): void {
    this.#state = 'joined';
    this.#address = address;
    this.#joinedAt = this.#settings.clock.now();
    for (const { resolve } of this.#connecting.splice(0)) resolve(address);
    this.#tell({ type: 'joined', address });
  }

  #received(sealed: SealedEnvelope, bytes: Uint8Array): void {
    let envelope: Envelope;
    try {
      envelope = openEnvelope(sealed);
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      this.#tell({ type: 'unreadable', error, bytes });
      return;
    }
    for (const listener of [...this.#envelopeListeners]) shielded(() => listener(envelope, bytes));
  }

  #confirmed(link: Link): void {
    const { confirmed } = link.unconfirmed;
    const done = this.#flushing.filter(({ upTo }) => upTo <= confirmed);
    this.#flushing = this.#flushing.filter(({ upTo }) => upTo > confirmed);
    for (const { resolve } of done) resolve();
    if (this.#flushing.length > 0) link.probe();
  }

  #ended(fault: LinkFault | undefined, unconfirmed: readonly Uint8Array[]): void {
    this.#link = undefined;
    if (this.#state === 'leaving' || fault === undefined) {
      this.#closed(unconfirmed);
      return;
    }
    const { clock, stableAfterMs, rejoinWhenReplaced } = this.#settings;
    if (this.#state === 'joined' && clock.now() - this.#joinedAt >= stableAfterMs) this.#backoff.reset();
    const error = new LinkError(fault);
    for (const { reject } of this.#flushing.splice(0)) reject(error);
    const mayRetry = !error.permanent || (error.replaced && rejoinWhenReplaced);
    const delayMs = mayRetry ? this.#backoff.nextDelay() : undefined;
    if (delayMs === undefined) {
      this.#state = 'idle';
      for (const { reject } of this.#connecting.splice(0)) reject(error);
      this.#tell({ type: 'gave-up', error, tries: this.#backoff.tries, unconfirmed });
    } else {
      const retryInMs = Math.min(error.retryAfterMs + delayMs, MAX_DELAY_MS);
      this.#state = 'waiting';
      this.#cancelRetry = clock.after(retryInMs, () => this.#dial());
      this.#tell({ type: 'disconnected', error, retryInMs, unconfirmed });
    }
  }

  #closed(unconfirmed: readonly Uint8Array[]): void {
    this.#state = 'idle';
    const error = new DisconnectedError();
    for (const { reject } of [...this.#connecting.splice(0), ...this.#flushing.splice(0)]) reject(error);
    for (const resolve of this.#leaving.splice(0)) resolve();
    this.#tell({ type: 'closed', unconfirmed });
  }

  #tell(event: RelayEvent): void {
    for (const listener of [...this.#eventListeners]) shielded(() => listener(event));
  }
}

function subscribe<Listener>(listeners: Set<Listener>, listener: Listener): Unsubscribe {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

function shielded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
