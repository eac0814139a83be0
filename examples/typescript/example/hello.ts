// Sends itself a message through a relay and prints what comes back:
//
//   node dist/example/hello.js ws://127.0.0.1:8080/ws localhost                  (challenge mode)
//   node dist/example/hello.js ws://127.0.0.1:8080/ws pinch:me@localhost         (open mode)

import { argv } from 'node:process';

import { type Identity, RelayClient, generateSeed, signerFromSeed } from 'pinch-relay-client';

const [url = 'ws://127.0.0.1:8080/ws', who = 'localhost'] = argv.slice(2);

const identity: Identity = who.startsWith('pinch:')
  ? { mode: 'open', address: who }
  : { mode: 'challenge', signer: await signerFromSeed(generateSeed()), host: who };
const client = new RelayClient({ url, identity, maxTries: 3 });
client.onEvent((event) => console.log(event.type));

const back = new Promise<string>((resolve) => {
  client.onEnvelope(({ payload }) => {
    if (payload?.kind === 'encrypted') resolve(new TextDecoder().decode(payload.ciphertext));
  });
});

const address = await client.connect();
// In earnest, this is where a message is encrypted: a relay is not to be able to read it.
const ciphertext = new TextEncoder().encode(`hello, ${address}`);
const empty = new Uint8Array();
client.sendEnvelope({
  toAddress: address,
  payload: { kind: 'encrypted', nonce: empty, ciphertext, senderPublicKey: empty },
});
console.log(await back);
await client.disconnect();
