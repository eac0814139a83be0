/** Everything that can go wrong. Each message says what was found, what was expected, and what to do. */

import { type Rejection, advice, isPermanent } from './rejection.js';

/** What all errors of this package have in common. */
export abstract class RelayError extends Error {
  /** Which error it is, for `switch`. */
  abstract readonly kind: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A setting of a client that makes no sense. */
export class ConfigError extends RelayError {
  override readonly kind = 'config';

  constructor(
    /** The name of the option. */
    readonly setting: string,
    found: unknown,
    expected: string,
  ) {
    super(`${setting} is ${typeof found === 'string' ? JSON.stringify(found) : String(found)}, expected ${expected}`);
  }
}

/** A text that is no address, or whose name is no key. */
export class AddressError extends RelayError {
  override readonly kind = 'address';

  constructor(
    /** The text. */
    readonly text: string,
    why: string,
  ) {
    super(`${JSON.stringify(text)} ${why}; expected pinch:<name>@<host>`);
  }
}

/** Bytes that are no envelope. */
export class EnvelopeError extends RelayError {
  override readonly kind = 'envelope';

  constructor(
    /** The byte that is wrong, counted from 0 within the message. */
    readonly at: number,
    why: string,
  ) {
    super(`byte ${at}: ${why}`);
  }
}

/** A call that the state of the client does not allow. */
export class StateError extends RelayError {
  override readonly kind = 'state';
}

/** `disconnect()` was called before what was waited for happened. */
export class DisconnectedError extends RelayError {
  override readonly kind = 'disconnected';

  constructor() {
    super('disconnect() was called; call connect() to join again');
  }
}

/** Why an envelope was not sent. */
export type SendFault =
  | { readonly kind: 'not-connected'; readonly state: string }
  | { readonly kind: 'full'; readonly bytes: number; readonly count: number }
  | { readonly kind: 'too-large'; readonly bytes: number; readonly limit: number }
  | { readonly kind: 'malformed'; readonly error: EnvelopeError }
  | { readonly kind: 'not-your-address'; readonly found: string; readonly expected: string }
  | { readonly kind: 'relay-only'; readonly type: number };

/** An envelope that was not sent: nothing of it has left. */
export class SendError extends RelayError {
  override readonly kind = 'send';

  constructor(
    /** Why not. Only `full` and `not-connected` pass by themselves. */
    readonly fault: SendFault,
  ) {
    super(describeSendFault(fault), fault.kind === 'malformed' ? { cause: fault.error } : undefined);
  }
}

function describeSendFault(fault: SendFault): string {
  switch (fault.kind) {
    case 'not-connected':
      return `the client is ${fault.state}, not joined; send again after the event "joined"`;
    case 'full':
      return `${fault.count} envelopes of ${fault.bytes} bytes are unconfirmed, which is the limit; await flush() first`;
    case 'too-large':
      return `the envelope has ${fault.bytes} bytes, expected at most ${fault.limit}; send its content in parts`;
    case 'malformed':
      return `these bytes are no envelope (${fault.error.message}); make them with encodeEnvelope()`;
    case 'not-your-address':
      return `fromAddress is ${JSON.stringify(fault.found)}, expected this client's own ${fault.expected}; leave it out`;
    case 'relay-only':
      return `type ${fault.type} may come from a relay only, and the relay would close the connection; use another`;
  }
}

/** What a relay says of a key that it does not accept. */
export const AUTHENTICATION_FAILED = 'authentication failed';

/** What it says of a key that it does not know, or no longer. */
const KEY_NOT_REGISTERED = 'key not registered';

/** Why a connection ended, or did not come about. */
export type LinkFault =
  | { readonly kind: 'dial-failed'; readonly detail: string }
  | { readonly kind: 'dial-timeout'; readonly afterMs: number }
  | ({ readonly kind: 'upgrade-rejected' } & Rejection)
  | { readonly kind: 'join-timeout'; readonly afterMs: number }
  | { readonly kind: 'heartbeat-timeout'; readonly afterMs: number }
  | { readonly kind: 'link-lost'; readonly detail: string }
  | { readonly kind: 'closed'; readonly code: number; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'maybe-late' }
  | { readonly kind: 'key-needed' }
  | { readonly kind: 'wrong-host'; readonly found: string; readonly expected: string }
  | { readonly kind: 'wrong-version'; readonly found: number }
  | { readonly kind: 'wrong-address'; readonly found: string; readonly expected: string }
  | { readonly kind: 'bad-challenge'; readonly detail: string }
  | { readonly kind: 'signer-failed'; readonly error: unknown }
  | { readonly kind: 'unexpected-message'; readonly type: number; readonly expected: string }
  | { readonly kind: 'text-message' }
  | { readonly kind: 'message-too-large'; readonly limit: number }
  | { readonly kind: 'malformed'; readonly error: EnvelopeError };

/** A connection that ended, or did not come about. */
export class LinkError extends RelayError {
  override readonly kind = 'link';

  constructor(
    /** Why. */
    readonly fault: LinkFault,
  ) {
    super(describeLinkFault(fault), 'error' in fault ? { cause: fault.error } : undefined);
  }

  /**
   * Whether trying again is pointless, or harmful, until a person has changed something; the client
   * does not, then.
   *
   * `address already connected` is not permanent: the other connection may be this client's own,
   * dead but not yet noticed by the relay. `authentication failed` is, unless the answer may have been
   * on the way for too long (`maybe-late`).
   */
  get permanent(): boolean {
    const { fault } = this;
    switch (fault.kind) {
      case 'key-needed':
      case 'wrong-host':
      case 'wrong-version':
      case 'wrong-address':
        return true;
      case 'refused':
        return [AUTHENTICATION_FAILED, KEY_NOT_REGISTERED].includes(fault.reason);
      case 'upgrade-rejected':
        return isPermanent(fault.status);
      case 'closed':
        // Those that would come again when the same envelopes are sent again, or the same key joins.
        return (
          [1003, 1007, 1009].includes(fault.code) ||
          (fault.code === 1008 && ['from_address is not yours', KEY_NOT_REGISTERED].includes(fault.reason)) ||
          this.replaced
        );
      default:
        return false;
    }
  }

  /** How long the relay asks to wait before the next try, in milliseconds; at most an hour if it refuses a join. */
  get retryAfterMs(): number {
    const { fault } = this;
    if (fault.kind === 'upgrade-rejected') return fault.retryAfterMs;
    const isRefused = fault.kind === 'refused' || (fault.kind === 'closed' && fault.code === 1013);
    const asked = isRefused ? /try again in (\d+) ms$/.exec(fault.reason)?.[1] : undefined;
    return Math.min(Number(asked ?? 0), 3_600_000);
  }

  /** Whether another connection took the address over. */
  get replaced(): boolean {
    return this.fault.kind === 'closed' && this.fault.code === 4001;
  }
}

function describeLinkFault(fault: LinkFault): string {
  switch (fault.kind) {
    case 'dial-failed':
      return (
        `no WebSocket to the relay came about (${fault.detail}); check that it runs at this URL in this mode, ` +
        "and, in a browser, that the page's origin is one of its --allowed-origins"
      );
    case 'upgrade-rejected':
      return `the relay answered ${`${fault.status} ${fault.reason}`.trim()}; ${advice(fault.status)}`;
    case 'dial-timeout':
      return `the WebSocket was not open after ${fault.afterMs} ms; check the URL and the network`;
    case 'join-timeout':
      return `the relay did not admit or refuse this client within ${fault.afterMs} ms; check that it is in the same mode`;
    case 'heartbeat-timeout':
      return `no sign of life from the relay within ${fault.afterMs} ms after a heartbeat; the link is taken for dead`;
    case 'link-lost':
      return `the link broke without a close frame (${fault.detail})`;
    case 'closed':
      return `closed by the relay: ${`${fault.code} ${fault.reason}`.trim()}`;
    case 'refused':
      return `the relay refuses this client: ${fault.reason}`;
    case 'maybe-late':
      return 'the relay refuses the answer to its challenge, which may have come too late';
    case 'key-needed':
      return "the relay is in challenge mode; join with { mode: 'challenge' } and a key";
    case 'wrong-host':
      return (
        `the challenge is for the relay ${JSON.stringify(fault.found)} instead of ${fault.expected} ` +
        'and was not signed; check identity.host against the public host of the relay'
      );
    case 'wrong-version':
      return `the relay speaks version ${fault.found} of the handshake, this client version 1; update the older one`;
    case 'wrong-address':
      return `the relay assigned ${JSON.stringify(fault.found)}, but this client is ${fault.expected}; do not trust this relay`;
    case 'bad-challenge':
      return `the challenge ${fault.detail} and was not signed; tell the operator of the relay`;
    case 'signer-failed':
      return `the signer failed (${String(fault.error)}); check the key`;
    case 'unexpected-message':
      return `the relay sent type ${fault.type} where ${fault.expected} was due; check that this is a Pinch relay`;
    case 'text-message':
      return 'the relay sent a text message, expected binary ones only; check that this is a Pinch relay';
    case 'message-too-large':
      return `the relay sent a message of more than ${fault.limit} bytes; check that this is a Pinch relay`;
    case 'malformed':
      return `the relay sent something that is no envelope (${fault.error.message}); check that this is a Pinch relay`;
  }
}
