/** An answer to the upgrade that is no WebSocket. */

import type { IncomingMessage } from 'node:http';

/** What an answer says. */
export interface Rejection {
  /** The status code of HTTP. */
  readonly status: number;
  /** One line for people. */
  readonly reason: string;
  /** How long the answer asks to wait before the next try; 0 if it does not ask. */
  readonly retryAfterMs: number;
}

/** How much of an answer errors show. */
const SHOWN_CHARS = 200;

/** A longer wait than this is more likely a mistake. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** Those of the 4xx that speak of this moment, and not of the request. */
const TEMPORARY = [408, 409, 421, 423, 425, 429];

/**
 * Whether the same request will get the same answer until a person has changed something: it blames
 * the request (4xx), or names another place for good. A 5xx says that the relay or a proxy has trouble,
 * and a 2xx or 302 is what a captive portal answers for any host until somebody logs in.
 */
export function isPermanent(status: number): boolean {
  return (status >= 400 && status < 500 && !TEMPORARY.includes(status)) || status === 301 || status === 308;
}

/** What to do about it. */
export function advice(status: number): string {
  switch (status) {
    case 400:
      return 'check the URL, and whether the relay is in open mode or in challenge mode';
    case 403:
      return 'ask the operator of the relay, or of a proxy before it, to let this client in';
    case 404:
    case 405:
    case 410:
      return 'check the host and the path of the URL: a relay answers at /ws';
    case 426:
      return 'update this client or the relay: they speak different versions of HTTP or WebSocket';
    case 301:
    case 308:
      return 'change the URL to the one that it names';
    default:
      return isPermanent(status) || status < 400 ? 'check the URL' : 'the relay may be back later';
  }
}

/** Reads as much of an answer as errors show. */
export async function readRejection(response: IncomingMessage): Promise<Rejection> {
  const status = response.statusCode ?? 0;
  const { location, date } = response.headers;
  const line = await firstLine(response);
  const isText = line !== '' && !line.startsWith('<');
  const said = isText ? line : (response.statusMessage ?? '');
  const isElsewhere = status >= 300 && status < 400 && location !== undefined;
  const reason = (isElsewhere ? `see ${location}` : said).replace(/\p{Cc}/gu, '').slice(0, SHOWN_CHARS);
  return { status, reason, retryAfterMs: retryAfterMs(response.headers['retry-after'], date) };
}

async function firstLine(response: IncomingMessage): Promise<string> {
  response.on('error', () => {});
  const chunk = await new Promise<Uint8Array>((resolve) => {
    const empty = new Uint8Array();
    response.once('data', resolve);
    for (const event of ['end', 'close', 'error']) response.once(event, () => resolve(empty));
  });
  return new TextDecoder().decode(chunk).trim().split('\n', 1)[0] ?? '';
}

/** Seconds, or a date by the clock that wrote the header `Date`, else by that of this machine. */
function retryAfterMs(asked = '', date = ''): number {
  const sent = Date.parse(date);
  const now = Number.isNaN(sent) ? Date.now() : sent;
  const waitMs = /^\d+$/.test(asked) ? Number(asked) * 1000 : Date.parse(asked) - now;
  return waitMs > 0 ? Math.min(waitMs, MAX_RETRY_AFTER_MS) : 0;
}
