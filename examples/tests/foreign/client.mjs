// An agent on Node's `ws`, led by the tests: a command per line on stdin, an event per line on
// stdout, both in JSON. The end of stdin is its end.

import { once } from 'node:events';
import { get } from 'node:http';
import { createRequire } from 'node:module';
import { join as path } from 'node:path';
import { createInterface } from 'node:readline';

import { answer } from './auth.mjs';
import { decode, encode } from './envelope.mjs';

// The package is installed where this process was started, not beside this file.
const { WebSocket } = createRequire(path(process.cwd(), 'package.json'))('ws');

// Types of messages.
const AUTH = [2, 9];
const MESSAGE = 4;
const DELIVERY_CONFIRM = 5;

let socket;

function emit(event, values = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
}

// Confirms that a message was delivered. The relay does not look into it, so it has no signature.
function confirmation({ from_address: sender, to_address: recipient, message_id: id }) {
  const confirm = { message_id: id, state: 'delivered', was_stored: 1 };
  return encode({
    version: 1,
    from_address: recipient,
    to_address: sender,
    type: DELIVERY_CONFIRM,
    delivery_confirm: confirm,
  });
}

const commands = {
  // With `early`, the handlers are attached before the join. With `confirm`, each MESSAGE is
  // confirmed in its handler. With `close_after`, the handler of so many messages closes, or, if it
  // is 0, what follows the join.
  async join({ url, address, seed, host, origin, forge, receive, early, confirm, close_after: left }) {
    const query = new URLSearchParams();
    if (address !== undefined) query.set('address', address);
    if (receive !== undefined) query.set('receive', receive);
    const joining = new WebSocket(query.size === 0 ? url : `${url}?${query}`, { origin });
    socket = joining;
    const heard = (data, isBinary) => {
      if (!isBinary) throw new Error('a text message from the relay');
      const envelope = decode(data);
      if (AUTH.includes(envelope.type)) return;
      emit('envelope', { hex: data.toString('hex'), envelope });
      if (envelope.type !== MESSAGE) return;
      if (confirm) joining.send(confirmation(envelope));
      if (left !== undefined && --left === 0) joining.close(1000);
    };
    if (early) joining.on('message', heard);
    const challenge = seed && once(joining, 'message');
    joining.on('ping', () => emit('ping'));
    joining.on('unexpected-response', (_request, response) => {
      emit('rejected', { status: response.statusCode });
      response.destroy();
    });
    await once(joining, 'open');
    joining.on('close', (code, reason) => emit('closed', { code, reason: reason.toString() }));
    if (seed) {
      joining.send(answer(decode((await challenge)[0]), seed, host, forge));
      const { auth_result: result } = decode((await once(joining, 'message'))[0]);
      if (!result.success) {
        emit('refused', { reason: result.error_message });
        return;
      }
      address = result.assigned_address;
    }
    // Only now, as clients in the field do: what the relay says too early is lost.
    if (!early) joining.on('message', heard);
    emit('joined', { address });
    if (left === 0) joining.close(1000);
  },

  // Sends an envelope, with the bytes `unknown` behind its known fields.
  send({ envelope, unknown = '' }) {
    const bytes = Buffer.concat([encode(envelope), Buffer.from(unknown, 'hex')]);
    emit('sent', { hex: bytes.toString('hex') });
    socket.send(bytes);
  },

  binary({ hex }) {
    socket.send(Buffer.from(hex, 'hex'));
  },

  text({ text }) {
    socket.send(text);
  },

  // Writes bytes that are no frame, or a wrong one, past the library.
  raw({ hex }) {
    socket._socket.write(Buffer.from(hex, 'hex'));
  },

  close({ code, reason }) {
    socket.close(code, reason);
  },

  async get({ url }) {
    const [response] = await once(get(url), 'response');
    let body = '';
    for await (const chunk of response.setEncoding('utf8')) body += chunk;
    emit('response', { status: response.statusCode, body });
  },
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on('close', () => process.exit(0));
