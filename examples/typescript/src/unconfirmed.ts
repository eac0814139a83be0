/**
 * What was sent, and may not have reached the relay.
 *
 * A connection keeps its order, so the answer to a heartbeat confirms all that was sent before it.
 * When heartbeats go out is decided elsewhere.
 */

/** How much may be unconfirmed. */
export interface UnconfirmedLimits {
  readonly bytes: number;
  readonly count: number;
}

/** The envelopes of one connection that the relay has not confirmed, the oldest first. */
export class Unconfirmed {
  readonly #limits: UnconfirmedLimits;
  #envelopes: Uint8Array[] = [];
  #bytes = 0;
  /** How many of them a heartbeat was sent behind. */
  #covered = 0;
  #sent = 0;

  constructor(limits: UnconfirmedLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#envelopes.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** How many envelopes were sent on this connection. */
  get sent(): number {
    return this.#sent;
  }

  /** How many of them have reached the relay: always the oldest. */
  get confirmed(): number {
    return this.#sent - this.count;
  }

  /** Whether there is one that no heartbeat was sent behind. */
  get hasUncovered(): boolean {
    return this.#covered < this.count;
  }

  /** Whether it is time to make room, so that a steady sender does not run into the limits. */
  get isHalfFull(): boolean {
    return this.#bytes * 2 > this.#limits.bytes || this.count * 2 > this.#limits.count;
  }

  hasRoomFor(bytes: number): boolean {
    return this.count < this.#limits.count && this.#bytes + bytes <= this.#limits.bytes;
  }

  add(envelope: Uint8Array): void {
    this.#envelopes.push(envelope);
    this.#bytes += envelope.length;
    this.#sent += 1;
  }

  /** A heartbeat goes out behind all of them. */
  cover(): void {
    this.#covered = this.count;
  }

  /** That heartbeat was answered. */
  confirm(): void {
    for (const envelope of this.#envelopes.splice(0, this.#covered)) this.#bytes -= envelope.length;
    this.#covered = 0;
  }

  /** The connection has ended: takes all of them out. */
  take(): readonly Uint8Array[] {
    const envelopes = this.#envelopes;
    this.#envelopes = [];
    this.#bytes = 0;
    this.#covered = 0;
    return envelopes;
  }
}
