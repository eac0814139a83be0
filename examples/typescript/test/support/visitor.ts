// A program that joins the relay at a URL, comes back whenever the link is lost, leaves with the third
// join, or when it has given up, and is to end by itself then. What happens is printed. A number behind
// the URL says how many milliseconds a dial may take; then it dials twice.

import { argv } from 'node:process';

import { RelayClient } from 'pinch-relay-client';

const [url = '', dialTimeoutMs] = argv.slice(2);
const client = new RelayClient({
  url,
  ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs: Number(dialTimeoutMs), maxTries: 2 }),
  identity: { mode: 'open', address: 'pinch:visitor@localhost' },
  heartbeatIntervalMs: 50,
  heartbeatTimeoutMs: 200,
  closeTimeoutMs: 200,
  backoffBaseMs: 1,
});

let joins = 0;
client.onEvent((event) => {
  console.log(event.type, 'error' in event && event.error.kind === 'link' ? event.error.fault.kind : '');
  if (event.type === 'joined') joins += 1;
  if (event.type === 'joined' && joins === 3) {
    void client.disconnect().then(() => console.log('left'));
  }
});
await client.connect().catch(() => {});
