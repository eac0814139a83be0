// A hub on the package `ws` for Node, as it is usually written: `node ws.mjs`.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { recipient } from "./recipient.mjs";

const PING_INTERVAL = 25_000;
const PONG_TIMEOUT = 7_000;

const sockets = new Map();
const server = createServer((_, response) => response.writeHead(404).end());
const hub = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  maxPayload: 128 * 1024,
  perMessageDeflate: false,
});

server.on("upgrade", (request, stream, head) => {
  const { searchParams } = new URL(request.url, "http://localhost");
  const address = searchParams.get("address");
  if (!address) {
    stream.end("HTTP/1.1 400 Bad Request\r\n\r\n");
    return;
  }
  hub.handleUpgrade(request, stream, head, (socket) => join(socket, address));
});

function join(socket, address) {
  sockets.set(address, socket);
  let deadline;
  const pings = setInterval(() => {
    socket.ping();
    deadline = setTimeout(() => socket.terminate(), PONG_TIMEOUT);
  }, PING_INTERVAL);
  socket.on("pong", () => clearTimeout(deadline));
  socket.on("message", (envelope, isBinary) => {
    if (isBinary) sockets.get(recipient(envelope))?.send(envelope, { binary: true });
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    clearInterval(pings);
    clearTimeout(deadline);
    if (sockets.get(address) === socket) sockets.delete(address);
  });
}

server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening on ws://127.0.0.1:${server.address().port}/ws`);
});
