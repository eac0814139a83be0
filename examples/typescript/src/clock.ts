/** Time, as the client sees it: tests put one of their own in its place. */

/** A clock that never goes backwards, and its timers. */
export interface Clock {
  /** Milliseconds since some moment. */
  now(): number;
  /** Calls `callback` once `delayMs` are over. The function returned calls that off. */
  after(delayMs: number, callback: () => void): () => void;
}

/** The clock of the platform. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
