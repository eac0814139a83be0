/**
 * A client of the Pinch relay for Node and browsers.
 *
 * @packageDocumentation
 */

export { type AddressParts, addressOf, isSameAddress, normalizeAddress, parseAddress, publicKeyOf } from './address.js';
export type { Clock } from './clock.js';
export { type Envelope, decodeEnvelope, encodeEnvelope, payloadOf } from './envelope.js';
export {
  AddressError,
  ConfigError,
  DisconnectedError,
  EnvelopeError,
  LinkError,
  type LinkFault,
  RelayError,
  SendError,
  type SendFault,
  StateError,
} from './errors.js';
export { type Identity, type Signer, generateSeed, nobleSigner, signerFromSeed, webCryptoSigner } from './identity.js';
export { MessageType, type Payload, type PayloadKind, type PayloadOf } from './messages.js';
export type { RelayClientOptions } from './options.js';
export type { OutgoingEnvelope } from './outgoing.js';
export type { Rejection } from './rejection.js';
export { type ClientState, RelayClient, type RelayEvent, type Unsubscribe } from './relay-client.js';
export type { WebSocketLike } from './socket.js';
