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

/** The longest time between two of the last looks, in milliseconds. */
const LONGEST_GRACE_MS = 250;

/**
 * Calls `callback` once a timeout of `delayMs` is over, and half a second of grace (half of a timeout
 * below one second). The function returned calls that off.
 *
 * A pause of the process (SIGSTOP, a debugger, a suspended machine) does not use it up: what came
 * meanwhile lies in the socket, and timers go first. So the time is divided into six looks, and a
 * pause of any length costs one of them.
 */
export function patiently(clock: Clock, delayMs: number, callback: () => void): () => void {
  const quarter = delayMs / 4;
  const grace = Math.min(quarter, LONGEST_GRACE_MS);
  const looks = [quarter, quarter, quarter, quarter, grace, grace];
  let cancel: () => void = () => {};
  const look = (): void => {
    const next = looks.shift();
    if (next === undefined) callback();
    else cancel = clock.after(next, look);
  };
  look();
  return () => cancel();
}
