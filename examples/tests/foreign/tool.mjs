// A tool of the command line on Node's `ws`, as they are in the field. Each run joins, works, closes
// as soon as it has heard nothing for some ms, and ends with the close. Its contact, and what it sent
// and was sent, is in a JSON file. It is not idempotent: what comes twice undoes the contact or breaks
// the file, so here it counts as a failure.
//
// Its only argument is a task in JSON: what to `do` (connect, accept, send, history, status), the
// `count` of messages to send, the `url`, the `host` of the relay, its `seed`, the address of its `peer`, its `store`, whether the
// handlers are attached `early`, i.e. before the join, and two numbers of ms: how long it may be
// `quiet`, and how long the run may last beyond the join.

import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join as path } from 'node:path';

import { answer } from './auth.mjs';
import { decode, encode } from './envelope.mjs';

// The package is installed where this process was started, not beside this file.
const { WebSocket } = createRequire(path(process.cwd(), 'package.json'))('ws');

const [AUTH_CHALLENGE, AUTH_RESULT, QUEUE_STATUS] = [2, 9, 13];
const [MESSAGE, DELIVERY_CONFIRM, REQUEST, RESPONSE, REVOKE] = [4, 5, 6, 7, 10];

const task = JSON.parse(process.argv[2]);
const { peer } = task;
const store = existsSync(task.store)
  ? JSON.parse(readFileSync(task.store, 'utf8'))
  : { contact: 'none', requests: 0, responses: 0, sent: {}, received: {}, failures: [] };

let own;
let isDone = false;

function check(isRight, what) {
  if (!isRight) store.failures.push(`${task.do}: ${what}`);
}

const socket = new WebSocket(task.url);

function send(type, payload) {
  socket.send(encode({ version: 1, from_address: own, to_address: peer, type, ...payload }));
}

// What can be done by now, unless the socket is closing: then the next run does it.
function work() {
  if (own === undefined || socket.readyState !== WebSocket.OPEN) return;
  for (const [id, state] of Object.entries(store.received)) {
    if (state === 'confirmed') continue;
    const timestamp = Date.now();
    send(DELIVERY_CONFIRM, { delivery_confirm: { message_id: id, timestamp, state: 'delivered', was_stored: 1 } });
    store.received[id] = 'confirmed';
  }
  if (isDone) return;
  if (task.do === 'connect') {
    const both = { from_address: own, to_address: peer };
    if (store.contact === 'active') send(REVOKE, { connection_revoke: both });
    send(REQUEST, { connection_request: { ...both, message: 'hello', expires_at: 2_000_000_000 } });
    store.contact = 'pending_outbound';
    isDone = true;
  } else if (task.do === 'accept' && store.contact === 'pending_inbound') {
    send(RESPONSE, { connection_response: { from_address: own, to_address: peer, accepted: 1 } });
    store.contact = 'active';
    store.responses += 1;
    isDone = true;
  } else if (task.do === 'send' && store.contact === 'active') {
    for (let rest = task.count; rest > 0; rest -= 1) {
      const id = randomBytes(16).toString('hex');
      const encrypted = { nonce: id, ciphertext: randomBytes(100).toString('hex') };
      send(MESSAGE, { message_id: id, timestamp: Date.now(), encrypted });
      store.sent[id] = 'sent';
    }
    isDone = true;
  }
}

function take(envelope) {
  switch (envelope.type) {
    case AUTH_CHALLENGE:
    case AUTH_RESULT:
    case QUEUE_STATUS:
      return;
    case REQUEST:
      check(['none', 'revoked'].includes(store.contact), `a CONNECTION_REQUEST of one who is ${store.contact}`);
      store.contact = 'pending_inbound';
      store.requests += 1;
      return;
    case RESPONSE:
      check(store.contact === 'pending_outbound', `a CONNECTION_RESPONSE of one who is ${store.contact}`);
      store.contact = 'active';
      store.responses += 1;
      return;
    case REVOKE:
      check(store.contact === 'active', `a CONNECTION_REVOKE of one who is ${store.contact}`);
      store.contact = 'revoked';
      return;
    case MESSAGE:
      check(store.contact === 'active', `a MESSAGE of one who is ${store.contact}`);
      check(store.received[envelope.message_id] === undefined, 'a MESSAGE for the second time');
      store.received[envelope.message_id] = 'received';
      return;
    case DELIVERY_CONFIRM: {
      const id = envelope.delivery_confirm.message_id;
      check(store.sent[id] === 'sent', `a DELIVERY_CONFIRM of what is ${store.sent[id]}`);
      store.sent[id] = 'delivered';
      return;
    }
    default:
      check(false, JSON.stringify(envelope));
  }
}

// Ends the run when nothing has come for a while.
let quiet;
const close = () => socket.close(1000);
function listen() {
  clearTimeout(quiet);
  quiet = setTimeout(close, task.quiet);
}

function heard(data) {
  take(decode(data));
  if (own === undefined) return;
  listen();
  work();
}

if (task.early) socket.on('message', heard);
socket.once('message', (challenge) => {
  socket.send(answer(decode(challenge), task.seed, task.host, false));
  socket.once('message', (data) => {
    const { auth_result: result } = decode(data);
    if (!result.success) return;
    own = result.assigned_address;
    if (!task.early) socket.on('message', heard);
    setTimeout(close, task.limit);
    listen();
    work();
  });
});
socket.on('error', (error) => check(false, String(error)));
socket.on('close', (code, reason) => {
  check(own !== undefined && code === 1000, `closed with ${code} ${reason}`);
  writeFileSync(task.store, JSON.stringify(store));
  process.exit(0);
});
