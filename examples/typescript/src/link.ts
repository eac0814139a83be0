/** One connection to the relay, from the dial to its end. What comes after it is decided elsewhere. */

import { patiently } from './clock.js';
import { type Envelope, type SealedEnvelope, VERSION, encodeEnvelope, parseEnvelope } from './envelope.js';
import { AUTHENTICATION_FAILED, EnvelopeError, type LinkFault } from './errors.js';
import { type KeyIdentity, answerChallenge, readResult } from './handshake.js';
import { Heartbeat } from './heartbeat.js';
import { MessageType } from './messages.js';
import type { Settings } from './options.js';
import { randomId } from './outgoing.js';
import { MAX_MESSAGE_BYTES, Socket, type SocketEnd } from './socket.js';
import { Unconfirmed } from './unconfirmed.js';

/**
 * How far a link is.
 *
 * ```text
 *  dialing ──► challenged ──► signing ──► judged ──► joined ──► leaving ──► ended
 *     └──────────────── named ──────────────────────►┘
 * ```
 *
 * In open mode (`named`) the relay says nothing to who joins, and may still refuse it: a first
 * heartbeat that comes back shows that it did not.
 */
type Stage = 'dialing' | 'challenged' | 'signing' | 'judged' | 'named' | 'joined' | 'leaving' | 'ended';

/** What a link tells. `ended` is the last. */
export interface LinkListener {
  joined(address: string): void;
  received(envelope: SealedEnvelope, bytes: Uint8Array): void;
  /** The relay has confirmed something. */
  confirmed(): void;
  /** The link broke, or (without a fault) was closed as asked. */
  ended(fault: LinkFault | undefined, unconfirmed: readonly Uint8Array[]): void;
}

/** One connection. */
export class Link {
  readonly unconfirmed: Unconfirmed;
  readonly #settings: Settings;
  readonly #listener: LinkListener;
  readonly #heartbeat: Heartbeat;
  /** The id of the heartbeat that is on its way. */
  #heartbeatId: Uint8Array | undefined;
  #stage: Stage = 'dialing';
  #socket: Socket | undefined;
  #address = '';
  #dialledAt = 0;
  /** How long the challenge is valid; 0 until it is answered. */
  #lifetimeMs = 0;
  #cancelDeadline: () => void = () => {};

  constructor(settings: Settings, listener: LinkListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.unconfirmed = new Unconfirmed({
      bytes: settings.maxUnconfirmedBytes,
      count: settings.maxUnconfirmedCount,
    });
    const times = { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs };
    this.#heartbeat = new Heartbeat(settings.clock, times, {
      sendHeartbeat: () => this.#sendHeartbeat(),
      bufferedBytes: () => this.#socket?.bufferedBytes ?? 0,
      lifeless: () => this.#break({ kind: 'heartbeat-timeout', afterMs: times.timeoutMs }),
    });
  }

  /** Opens the WebSocket, then joins. */
  async dial(): Promise<void> {
    const { url, dialTimeoutMs, openWebSocket, clock } = this.#settings;
    this.#dialledAt = clock.now();
    this.#limit(dialTimeoutMs, { kind: 'dial-timeout', afterMs: dialTimeoutMs });
    try {
      const socket = new Socket(await openWebSocket(url), {
        opened: () => this.#opened(),
        received: (message) => this.#received(message),
        oversized: () => this.#break({ kind: 'message-too-large', limit: MAX_MESSAGE_BYTES }),
        closed: (end) => this.#closed(end),
      });
      this.#socket = socket;
    } catch (error) {
      this.#break({ kind: 'dial-failed', detail: error instanceof Error ? error.message : String(error) });
      return;
    }
    if (this.#is('ended')) this.#socket.drop();
  }

  /** Sends an envelope that was checked. Only to be called once joined. */
  send(envelope: Uint8Array): void {
    this.unconfirmed.add(envelope);
    this.#socket?.send(envelope);
    if (this.unconfirmed.isHalfFull) this.probe();
  }

  /** Makes the relay confirm what was sent, unless it is about to do so anyway. */
  probe(): void {
    if (this.#is('joined')) this.#heartbeat.send();
  }

  /** Says goodbye and waits for the relay to do so; what has not joined is dropped. */
  leave(): void {
    if (!this.#is('joined')) {
      this.#end(undefined);
      return;
    }
    this.#stage = 'leaving';
    this.#heartbeat.stop();
    this.#limit(this.#settings.closeTimeoutMs, undefined);
    this.#socket?.close();
  }

  #opened(): void {
    const { identity, joinTimeoutMs } = this.#settings;
    this.#limit(joinTimeoutMs, { kind: 'join-timeout', afterMs: joinTimeoutMs });
    if (identity.mode === 'challenge') {
      this.#stage = 'challenged';
    } else {
      this.#stage = 'named';
      this.#address = identity.address;
      this.#heartbeat.send();
    }
  }

  #received(message: Uint8Array | undefined): void {
    if (message === undefined) {
      this.#break({ kind: 'text-message' });
      return;
    }
    const { identity } = this.#settings;
    if (identity.mode === 'challenge' && !this.#is('joined', 'leaving')) this.#continueJoin(message, identity);
    else this.#receivedEnvelope(message);
  }

  #continueJoin(message: Uint8Array, identity: KeyIdentity): void {
    if (this.#is('challenged')) {
      this.#stage = 'signing';
      void this.#answer(message, identity);
      return;
    }
    // A refusal may come before the answer: when the signer takes too long, say.
    const result = readResult(message, identity);
    if (!('address' in result)) this.#break(this.#isMaybeLate(result) ? { kind: 'maybe-late' } : result);
    else if (this.#is('judged')) this.#joined(result.address);
    else this.#break({ kind: 'unexpected-message', type: MessageType.AuthResult, expected: 'no verdict yet' });
  }

  async #answer(challenge: Uint8Array, identity: KeyIdentity): Promise<void> {
    const answer = await answerChallenge(challenge, identity);
    if (!this.#is('signing')) return;
    if ('response' in answer) {
      this.#stage = 'judged';
      this.#lifetimeMs = answer.lifetimeMs;
      this.#socket?.send(answer.response);
    } else {
      this.#break(answer);
    }
  }

  /** Whether the relay may have got the answer to its challenge when that had expired. */
  #isMaybeLate(fault: LinkFault): boolean {
    // The challenge was issued after the dial began.
    const elapsedMs = this.#settings.clock.now() - this.#dialledAt;
    return fault.kind === 'refused' && fault.reason === AUTHENTICATION_FAILED && elapsedMs >= this.#lifetimeMs;
  }

  #joined(address: string): void {
    this.#cancelDeadline();
    this.#stage = 'joined';
    this.#address = address;
    this.#heartbeat.start();
    this.#listener.joined(address);
  }

  #receivedEnvelope(message: Uint8Array): void {
    let envelope: SealedEnvelope;
    try {
      envelope = parseEnvelope(message);
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      this.#break({ kind: 'malformed', error });
      return;
    }
    if (envelope.type === MessageType.AuthChallenge) {
      this.#break({ kind: 'key-needed' });
      return;
    }
    this.#heartbeat.heard();
    if (this.#is('named')) this.#joined(this.#address);
    if (this.#heartbeatId === undefined || !isEqual(envelope.messageId, this.#heartbeatId)) {
      // A heartbeat of an earlier link, which the relay has kept and delivers now, says nothing about
      // what was sent on this one.
      if (!isOwnHeartbeat(envelope)) this.#listener.received(envelope, message);
      return;
    }
    // The heartbeat itself, or what the relay had to say about it: it has read all before it.
    this.#heartbeatId = undefined;
    this.#heartbeat.answered();
    this.unconfirmed.confirm();
    this.#listener.confirmed();
    if (this.unconfirmed.isHalfFull) this.probe();
  }

  #sendHeartbeat(): void {
    const timestamp = BigInt(Date.now());
    this.#heartbeatId = randomId();
    const heartbeat: Envelope = {
      version: VERSION,
      fromAddress: this.#address,
      toAddress: this.#address,
      type: MessageType.Heartbeat,
      messageId: this.#heartbeatId,
      timestamp,
      payload: { kind: 'heartbeat', timestamp },
    };
    this.unconfirmed.cover();
    this.#socket?.send(encodeEnvelope(heartbeat));
  }

  #closed({ code, reason, detail, rejection }: SocketEnd): void {
    if (this.#is('leaving') && code === 1000) {
      // The relay has answered the close frame, and thereby read all before it.
      this.unconfirmed.cover();
      this.unconfirmed.confirm();
    }
    if (this.#is('leaving')) this.#end(undefined);
    else if (rejection !== undefined) this.#end({ kind: 'upgrade-rejected', ...rejection });
    else if (this.#is('dialing')) this.#end({ kind: 'dial-failed', detail });
    else if (code === 1006) this.#end({ kind: 'link-lost', detail });
    else this.#end({ kind: 'closed', code, reason });
  }

  /** Gives the connection up for this reason, unless it has ended or is being closed anyway. */
  #break(fault: LinkFault): void {
    this.#end(this.#is('leaving') ? undefined : fault);
  }

  #end(fault: LinkFault | undefined): void {
    if (this.#is('ended')) return;
    this.#stage = 'ended';
    this.#cancelDeadline();
    this.#heartbeat.stop();
    this.#socket?.drop();
    this.#listener.ended(fault, this.unconfirmed.take());
  }

  /** Ends the link after this time, unless another limit takes its place. */
  #limit(delayMs: number, fault: LinkFault | undefined): void {
    this.#cancelDeadline();
    this.#cancelDeadline = patiently(this.#settings.clock, delayMs, () => this.#end(fault));
  }

  #is(...stages: readonly Stage[]): boolean {
    return stages.includes(this.#stage);
  }
}

/** Whether this is a heartbeat from an agent to itself: nobody else can have written it. */
function isOwnHeartbeat({ type, fromAddress, toAddress }: SealedEnvelope): boolean {
  return type === MessageType.Heartbeat && fromAddress === toAddress;
}

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}
