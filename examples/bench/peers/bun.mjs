// A hub on the WebSocket server of Bun, as it is usually written: `bun bun.mjs`.

import { recipient } from "./recipient.mjs";

const sockets = new Map();

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    const address = new URL(request.url).searchParams.get("address");
    if (address && server.upgrade(request, { data: { address } })) return undefined;
    return new Response("a WebSocket and an address, please", { status: 400 });
  },
  websocket: {
    maxPayloadLength: 128 * 1024,
    perMessageDeflate: false,
    sendPings: true,
    idleTimeout: 32,
    backpressureLimit: 64 * 1024 * 1024,
    open(socket) {
      sockets.set(socket.data.address, socket);
    },
    message(socket, envelope) {
      if (typeof envelope !== "string") sockets.get(recipient(envelope))?.sendBinary(envelope);
    },
    close(socket) {
      const { address } = socket.data;
      if (sockets.get(address) === socket) sockets.delete(address);
    },
  },
});

console.log(`listening on ws://127.0.0.1:${server.port}/ws`);
