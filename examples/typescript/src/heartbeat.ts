/**
 * Whether the relay is still there.
 *
 * Browsers neither send WebSocket pings nor show them, so a heartbeat is an envelope of type
 * HEARTBEAT to this client's own address: the relay hands it back, and what comes back is seen
 * everywhere. One is on its way at most. Whatever else comes is a sign of life, too.
 */

import { type Clock, patiently } from './clock.js';

/** When a heartbeat is due, and how long its answer may take. */
export interface HeartbeatTimes {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** What a heartbeat asks of the connection that it watches. */
export interface HeartbeatLink {
  /** Sends one. */
  sendHeartbeat(): void;
  /** How many bytes wait in the socket. */
  bufferedBytes(): number;
  /** There was no sign of life. */
  lifeless(): void;
}

/** The heartbeats of one connection. */
export class Heartbeat {
  readonly #clock: Clock;
  readonly #times: HeartbeatTimes;
  readonly #link: HeartbeatLink;
  #isOnItsWay = false;
  #cancelInterval: () => void = () => {};
  #cancelDeadline: (() => void) | undefined;

  constructor(clock: Clock, times: HeartbeatTimes, link: HeartbeatLink) {
    this.#clock = clock;
    this.#times = times;
    this.#link = link;
  }

  /** Begins: the first one is due after the interval. */
  start(): void {
    this.#cancelInterval();
    this.#cancelInterval = this.#clock.after(this.#times.intervalMs, () => {
      this.start();
      this.send();
      this.#expectSign();
    });
  }

  /** Ends: nothing is called any more. */
  stop(): void {
    this.#cancelInterval();
    this.heard();
  }

  /** Sends one, unless one is on its way. It has no deadline: one behind a burst may take long. */
  send(): void {
    if (this.#isOnItsWay) return;
    this.#isOnItsWay = true;
    this.#link.sendHeartbeat();
  }

  /** Something came. */
  heard(): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = undefined;
  }

  /** The answer to a heartbeat came. */
  answered(): void {
    this.#isOnItsWay = false;
  }

  #expectSign(): void {
    if (this.#cancelDeadline !== undefined) return;
    const before = this.#link.bufferedBytes();
    this.#cancelDeadline = patiently(this.#clock, this.#times.timeoutMs, () => {
      this.#cancelDeadline = undefined;
      // A link that still takes what was sent before the heartbeat is slow, not dead.
      if (this.#link.bufferedBytes() < before) this.#expectSign();
      else this.#link.lifeless();
    });
  }
}
