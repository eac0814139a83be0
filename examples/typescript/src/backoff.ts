/** When to dial again: exponential backoff with full jitter. */

/** How a client waits between tries; see `RelayClientOptions` for the defaults. */
export interface BackoffLimits {
  readonly baseMs: number;
  readonly maxMs: number;
  readonly maxTries: number;
}

/** How often the relay was dialled in a row, and how long to wait before the next time. */
export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #random: () => number;
  #tries = 0;

  constructor(limits: BackoffLimits, random: () => number) {
    this.#limits = limits;
    this.#random = random;
  }

  /** How many tries there were since the last reset. */
  get tries(): number {
    return this.#tries;
  }

  /** One more try begins. */
  countTry(): void {
    this.#tries += 1;
  }

  /** A join has lasted: what failed before it is forgotten. */
  reset(): void {
    this.#tries = 0;
  }

  /**
   * How long to wait now that a try has failed, in milliseconds; `undefined` if it was the last.
   *
   * It is a random part of `baseMs` · 2ⁿ⁻¹ after the n-th failure in a row, so that the clients of a
   * relay that restarts do not come back all at once.
   */
  nextDelay(): number | undefined {
    if (this.#tries >= this.#limits.maxTries) return undefined;
    const ceiling = this.#limits.baseMs * 2 ** Math.max(0, this.#tries - 1);
    return this.#random() * Math.min(ceiling, this.#limits.maxMs);
  }
}
