// An agent on Node's `ws`, led by the tests: a command per line on stdin, an event per line on
// stdout, both in JSON. The end of stdin is its end.

import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { once } from 'node:events';
import { get } from 'node:http';
import { createRequire } from 'node:module';
import { join as path } from 'node:path';
import { createInterface } from 'node:readline';

import { decode, encode } from './envelope.mjs';

// The package is installed where this process was started, not beside this file.
const { WebSocket } = createRequire(path(process.cwd(), 'package.json'))('ws');

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');

let socket;

function emit(event, values = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
}

// Answers a challenge (protocol section 3) as a client should: after it has looked at it.
function answer({ auth_challenge: challenge }, seed, host, forge) {
  const nonce = Buffer.from(challenge.nonce, 'hex');
  if (challenge.version !== 1 || nonce.length !== 32 || challenge.relay_host.toLowerCase() !== host) {
    throw new Error(`not a challenge of ${host}: ${JSON.stringify(challenge)}`);
  }
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_ED25519, Buffer.from(seed, 'hex')]),
    format: 'der',
    type: 'pkcs8',
  });
  const text = Buffer.concat([Buffer.from(`pinch-auth-v1\0${challenge.relay_host}\0`), nonce]);
  const signature = sign(null, text, key);
  if (forge) signature[0] ^= 1;
  const publicKey = Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x, 'base64url');
  const response = {
    version: 1,
    public_key: publicKey.toString('hex'),
    signature: signature.toString('hex'),
    nonce: challenge.nonce,
  };
  return encode({ version: 1, type: 3, auth_response: response });
}

const commands = {
  async join({ url, address, seed, host, origin, forge }) {
    const query = address === undefined ? '' : `?address=${encodeURIComponent(address)}`;
    socket = new WebSocket(url + query, { origin });
    const challenge = seed && once(socket, 'message');
    socket.on('ping', () => emit('ping'));
    socket.on('unexpected-response', (_request, response) => {
      emit('rejected', { status: response.statusCode });
      response.destroy();
    });
    await once(socket, 'open');
    socket.on('close', (code, reason) => emit('closed', { code, reason: reason.toString() }));
    if (seed) {
      socket.send(answer(decode((await challenge)[0]), seed, host, forge));
      const { auth_result: result } = decode((await once(socket, 'message'))[0]);
      if (!result.success) {
        emit('refused', { reason: result.error_message });
        return;
      }
      address = result.assigned_address;
    }
    // Only now, as clients in the field do: what the relay says too early is lost.
    socket.on('message', (data, isBinary) => {
      if (!isBinary) throw new Error('a text message from the relay');
      emit('envelope', { hex: data.toString('hex'), envelope: decode(data) });
    });
    emit('joined', { address });
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
