// What a page does that uses the browser's own WebSocket: it takes what waits for Bob, closes in the
// handler of the last message, and comes back until nothing waits.

import { decodeEnvelope, encodeEnvelope } from 'pinch-relay-client';

/** What the page is told. */
export interface ClosingTask {
  /** Where Bob joins, with his name. */
  readonly url: string;
  readonly bob: string;
  /** How many messages wait for him. */
  readonly waiting: number;
}

/** The first byte of the id of each message, by the session in which it came. */
export type ClosingReport = readonly (readonly number[])[];

const MESSAGE = 4;

/** What Bob sends to himself, to know that he has all that waited. */
const LAST = 99;

/** How long a later session stays, in ms, so that the browser may answer pings. */
const STAY_MS = 200;

/** A session that closes in the handler of the message for which `isLast` holds, or some ms after. */
function session(
  { url, bob }: ClosingTask,
  isLast: (heard: readonly number[]) => boolean,
  stayMs: number,
): Promise<readonly number[]> {
  return new Promise((resolve, reject) => {
    const heard: number[] = [];
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      if (stayMs === 0) return;
      const routing = { version: 1, fromAddress: bob, toAddress: bob, type: MESSAGE };
      socket.send(Uint8Array.from(encodeEnvelope({ ...routing, messageId: Uint8Array.of(LAST), timestamp: 0n })));
    };
    socket.onmessage = ({ data }) => {
      const { type, messageId } = decodeEnvelope(new Uint8Array(data as ArrayBuffer));
      if (type !== MESSAGE) return;
      heard.push(messageId[0] ?? 0);
      if (!isLast(heard)) return;
      if (stayMs === 0) socket.close(1000);
      else setTimeout(() => socket.close(1000), stayMs);
    };
    socket.onclose = ({ code, reason }) => {
      if (code === 1000) resolve(heard.filter((number) => number !== LAST));
      else reject(new Error(`closed with ${code} ${reason}`));
    };
  });
}

try {
  const task = (await (await fetch('/tasks')).json()) as ClosingTask;
  const sessions = [await session(task, ({ length }) => length === task.waiting, 0)];
  while (sessions.at(-1)?.length !== 0) sessions.push(await session(task, (heard) => heard.at(-1) === LAST, STAY_MS));
  await fetch('/report', { method: 'POST', body: JSON.stringify(sessions) });
} catch (error) {
  await fetch('/report', { method: 'POST', body: JSON.stringify({ failure: String(error) }) });
}
