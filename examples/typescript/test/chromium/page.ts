// What the page in the browser does: it joins each relay of which it is told, exchanges envelopes
// with Bob, who is not in the browser, and reports what happened.

import { LinkError, RelayClient, type Signer, encodeEnvelope, nobleSigner, webCryptoSigner } from 'pinch-relay-client';

/** What the page is told. */
export interface Task {
  readonly relay: string;
  readonly host: string;
  readonly seed: readonly number[];
  readonly signer: 'webCrypto' | 'noble';
  readonly bob: string;
}

/** What the page reports, once for each task. Bytes are arrays of numbers. */
export type Report =
  | { readonly outcome: 'refused'; readonly fault: string; readonly message: string }
  | {
      readonly outcome: 'exchanged';
      readonly address: string;
      readonly sentToBob: readonly number[];
      readonly fromBob: readonly number[];
      readonly sentToSelf: readonly number[];
      readonly fromSelf: readonly number[];
    };

async function perform(task: Task): Promise<Report> {
  const seed = Uint8Array.from(task.seed);
  const signer: Signer = await (task.signer === 'noble' ? nobleSigner(seed) : webCryptoSigner(seed));
  const client = new RelayClient({
    url: task.relay,
    identity: { mode: 'challenge', signer, host: task.host },
    maxTries: 1,
  });
  const arrivals = new Map<string, (bytes: Uint8Array) => void>();
  const from = (sender: string): Promise<Uint8Array> => new Promise((resolve) => arrivals.set(sender, resolve));
  client.onEnvelope(({ fromAddress }, bytes) => arrivals.get(fromAddress)?.(bytes));
  const answer = from(task.bob);
  const echo = from(client.address);
  let address: string;
  try {
    address = await client.connect();
  } catch (error) {
    if (!(error instanceof LinkError)) throw error;
    return { outcome: 'refused', fault: error.fault.kind, message: error.message };
  }
  const send = (toAddress: string): Uint8Array => {
    const messageId = Uint8Array.of(1, 2, 3);
    const known = encodeEnvelope({
      version: 1,
      fromAddress: address,
      toAddress,
      type: 4,
      messageId,
      timestamp: 7n,
    });
    // A field that nobody knows: it has to arrive all the same.
    const bytes = Uint8Array.of(...known, 0x9a, 0x06, 0x01, 0xff);
    client.sendEnvelope(bytes);
    return bytes;
  };
  const sentToSelf = send(address);
  const fromSelf = await echo;
  const sentToBob = send(task.bob);
  const fromBob = await answer;
  await client.flush();
  await client.disconnect();
  const [a, b, c, d] = [sentToBob, fromBob, sentToSelf, fromSelf].map((bytes) => [...bytes]);
  return {
    outcome: 'exchanged',
    address,
    sentToBob: a ?? [],
    fromBob: b ?? [],
    sentToSelf: c ?? [],
    fromSelf: d ?? [],
  };
}

async function report(body: unknown): Promise<void> {
  await fetch('/report', { method: 'POST', body: JSON.stringify(body) });
}

try {
  const tasks = (await (await fetch('/tasks')).json()) as readonly Task[];
  const reports: Report[] = [];
  for (const task of tasks) reports.push(await perform(task));
  await report(reports);
} catch (error) {
  await report({ failure: String(error) });
}
