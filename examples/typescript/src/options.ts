/** The settings of a client, each with the reason for its default. */

import { parseAddress } from './address.js';
import { type Clock, systemClock } from './clock.js';
import { AddressError, ConfigError } from './errors.js';
import type { Identity } from './identity.js';
import { MAX_ENVELOPE_BYTES } from './outgoing.js';
import { type WebSocketLike, openWebSocket } from './socket.js';

/** What a client is made of. Only `url` and `identity` are needed. */
export interface RelayClientOptions {
  /** Where the relay is: `ws://…/ws` or `wss://…/ws`. */
  readonly url: string | URL;
  /** Who joins. */
  readonly identity: Identity;
  /** How long opening the WebSocket may take. Default: 10,000, three transmissions of a lost SYN and TLS. */
  readonly dialTimeoutMs?: number;
  /** How long the relay may take from then to admit the client. Default: 10,000, as long as a challenge is valid. */
  readonly joinTimeoutMs?: number;
  /** The time between two heartbeats. Default: 25,000, below the 30 s after which many NATs forget an idle flow. */
  readonly heartbeatIntervalMs?: number;
  /** How long the relay may show no sign of life after a heartbeat. Default: 7,000, as the relay does with clients. */
  readonly heartbeatTimeoutMs?: number;
  /** How long `disconnect()` waits for the relay to say goodbye, too. Default: 5,000. */
  readonly closeTimeoutMs?: number;
  /** After the n-th failure in a row, the next try comes within `baseMs` · 2ⁿ⁻¹. Default: 500, hardly noticed. */
  readonly backoffBaseMs?: number;
  /** But within this at most. Default: 30,000, which a person is willing to wait for. */
  readonly backoffMaxMs?: number;
  /** After how many tries in a row the client gives up; `Infinity` for never. Default: 20, three to four minutes. */
  readonly maxTries?: number;
  /** How long a join must last until earlier failures are forgotten. Default: 30,000, the largest backoff. */
  readonly stableAfterMs?: number;
  /** Whether to join again after another connection took the address over. Default: no, or two clients with one
   * key would take it from each other without end. */
  readonly rejoinWhenReplaced?: boolean;
  /** How many bytes may be sent and not be confirmed by the relay. Default: 1 MiB, 16 of the largest envelopes. */
  readonly maxUnconfirmedBytes?: number;
  /** How many envelopes. Default: 1024. */
  readonly maxUnconfirmedCount?: number;
  /** Opens the WebSocket, if the platform's own, or `ws`, is not the one: for a proxy, say, or for headers. It is
   * to be handed over before its first event. */
  readonly openWebSocket?: (url: string) => WebSocketLike | Promise<WebSocketLike>;
  /** Tells the time. Tests put their own here. */
  readonly clock?: Clock;
  /** A random number from 0 to 1 for the jitter. Default: `Math.random`. */
  readonly random?: () => number;
}

/** The settings of a client, complete and checked. */
export type Settings = Required<Omit<RelayClientOptions, 'url'>> & { readonly url: string };

/** The longest delay that timers of JavaScript know; a longer one would be none at all. */
export const MAX_DELAY_MS = 2 ** 31 - 1;

const DEFAULTS = {
  dialTimeoutMs: 10_000,
  joinTimeoutMs: 10_000,
  heartbeatIntervalMs: 25_000,
  heartbeatTimeoutMs: 7_000,
  closeTimeoutMs: 5_000,
  backoffBaseMs: 500,
  backoffMaxMs: 30_000,
  stableAfterMs: 30_000,
  maxTries: 20,
  maxUnconfirmedBytes: 1 << 20,
  maxUnconfirmedCount: 1024,
  rejoinWhenReplaced: false,
  openWebSocket,
  clock: systemClock,
  random: Math.random,
} as const;

/**
 * Fills in the defaults and checks that the settings make sense.
 *
 * @throws ConfigError naming the setting that does not, and what is accepted.
 */
export function complete(options: RelayClientOptions): Settings {
  checkIdentity(options.identity);
  // An option that is there but undefined means the default, too.
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const settings = {
    ...DEFAULTS,
    ...(Object.fromEntries(given) as unknown as RelayClientOptions),
    url: relayUrl(options.url, options.identity),
  };
  for (const [name, value] of Object.entries(settings)) {
    if (name.endsWith('Ms') && !(typeof value === 'number' && value > 0 && value <= MAX_DELAY_MS)) {
      throw new ConfigError(name, value, `milliseconds, more than 0 and at most ${MAX_DELAY_MS}`);
    }
    if (name.startsWith('max') && !(typeof value === 'number' && value >= 1)) {
      throw new ConfigError(name, value, '1 or more');
    }
  }
  const { backoffBaseMs, backoffMaxMs, maxUnconfirmedBytes } = settings;
  if (backoffBaseMs > backoffMaxMs) throw new ConfigError('backoffBaseMs', backoffBaseMs, `at most ${backoffMaxMs}`);
  if (maxUnconfirmedBytes < MAX_ENVELOPE_BYTES) {
    throw new ConfigError(
      'maxUnconfirmedBytes',
      maxUnconfirmedBytes,
      `the largest envelope or more, ${MAX_ENVELOPE_BYTES}`,
    );
  }
  return settings;
}

function checkIdentity(identity: Identity): void {
  if (identity.mode === 'open') {
    try {
      parseAddress(identity.address);
    } catch (error) {
      if (error instanceof AddressError)
        throw new ConfigError('identity.address', identity.address, 'pinch:<name>@<host>');
      throw error;
    }
    return;
  }
  const { host, signer } = identity;
  if (!/^[!-?A-~]{1,199}$/.test(host)) {
    throw new ConfigError('identity.host', host, '1 to 199 printable characters without space and @');
  }
  if (signer.publicKey.length !== 32) {
    throw new ConfigError('identity.signer.publicKey', `${signer.publicKey.length} bytes`, '32 bytes');
  }
}

/** The URL to dial: in open mode, it says who comes. */
function relayUrl(text: string | URL, identity: Identity): string {
  // What stands before an @ may be a password.
  const wrong = (expected: string) => new ConfigError('url', String(text).replace(/[^?]*@/, '…@'), expected);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong('an absolute URL such as wss://relay.example.com/ws');
  }
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') throw wrong('ws:// or wss://');
  if (url.hash !== '') throw wrong('no fragment');
  if (url.username !== '' || url.password !== '') throw wrong('no user and no password');
  if (identity.mode === 'open') url.searchParams.set('address', identity.address);
  return url.href;
}
