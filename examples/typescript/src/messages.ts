/** The messages of the protocol: their numbers on the wire, and the types that follow from them. */

/** What an envelope is for. Relays forward numbers that are not listed here, too. */
export const MessageType = {
  Unspecified: 0,
  Handshake: 1,
  AuthChallenge: 2,
  AuthResponse: 3,
  Message: 4,
  DeliveryConfirm: 5,
  ConnectionRequest: 6,
  ConnectionResponse: 7,
  Heartbeat: 8,
  AuthResult: 9,
  ConnectionRevoke: 10,
  BlockNotification: 11,
  UnblockNotification: 12,
  QueueStatus: 13,
  QueueFull: 14,
  RateLimited: 15,
} as const;

/** Types that belong to the relay and to the handshake: it closes a connection that sends one. */
export const RELAY_ONLY: ReadonlySet<number> = new Set([
  MessageType.AuthChallenge,
  MessageType.AuthResponse,
  MessageType.AuthResult,
  MessageType.QueueStatus,
  MessageType.QueueFull,
  MessageType.RateLimited,
]);

/** The kinds of fields, and what each is in TypeScript. */
export interface KindTypes {
  bool: boolean;
  uint32: number;
  int32: number;
  int64: bigint;
  string: string;
  bytes: Uint8Array;
}

type Field = readonly [number: number, kind: keyof KindTypes];

/** A payload: its number within the envelope, and its fields. */
export interface PayloadSchema {
  readonly field: number;
  readonly fields: Readonly<Record<string, Field>>;
}

/** All payloads, under the names that `Payload.kind` has. */
export const PAYLOADS = {
  /** Of a MESSAGE: what only its recipient can read. */
  encrypted: {
    field: 10,
    fields: { nonce: [1, 'bytes'], ciphertext: [2, 'bytes'], senderPublicKey: [3, 'bytes'] },
  },
  handshake: {
    field: 11,
    fields: { version: [1, 'uint32'], signingKey: [2, 'bytes'], encryptionKey: [3, 'bytes'] },
  },
  heartbeat: {
    field: 12,
    fields: {
      /** In Unix milliseconds. */
      timestamp: [1, 'int64'],
    },
  },
  authChallenge: {
    field: 13,
    fields: {
      version: [1, 'uint32'],
      nonce: [2, 'bytes'],
      /** In Unix milliseconds. */
      issuedAtMs: [3, 'int64'],
      /** In Unix milliseconds. */
      expiresAtMs: [4, 'int64'],
      relayHost: [5, 'string'],
    },
  },
  authResponse: {
    field: 14,
    fields: { version: [1, 'uint32'], publicKey: [2, 'bytes'], signature: [3, 'bytes'], nonce: [4, 'bytes'] },
  },
  authResult: {
    field: 15,
    fields: { success: [1, 'bool'], errorMessage: [2, 'string'], assignedAddress: [3, 'string'] },
  },
  connectionRequest: {
    field: 16,
    fields: {
      fromAddress: [1, 'string'],
      toAddress: [2, 'string'],
      message: [3, 'string'],
      senderPublicKey: [4, 'bytes'],
      /** In Unix seconds. */
      expiresAt: [5, 'int64'],
    },
  },
  connectionResponse: {
    field: 17,
    fields: {
      fromAddress: [1, 'string'],
      toAddress: [2, 'string'],
      accepted: [3, 'bool'],
      responderPublicKey: [4, 'bytes'],
    },
  },
  connectionRevoke: { field: 18, fields: { fromAddress: [1, 'string'], toAddress: [2, 'string'] } },
  blockNotification: { field: 19, fields: { blockerAddress: [1, 'string'], blockedAddress: [2, 'string'] } },
  unblockNotification: {
    field: 20,
    fields: { unblockerAddress: [1, 'string'], unblockedAddress: [2, 'string'] },
  },
  deliveryConfirm: {
    field: 21,
    fields: {
      messageId: [1, 'bytes'],
      signature: [2, 'bytes'],
      /** In Unix milliseconds. */
      timestamp: [3, 'int64'],
      state: [4, 'string'],
      wasStored: [5, 'bool'],
    },
  },
  /** From the relay: how many envelopes waited while this client was away. */
  queueStatus: { field: 22, fields: { pendingCount: [1, 'int32'] } },
  /** From the relay: the envelope with this one's `messageId` will not reach its recipient. */
  queueFull: {
    field: 23,
    fields: {
      recipientAddress: [1, 'string'],
      /** The true reason, for people. */
      reason: [2, 'string'],
    },
  },
  /** From the relay: the envelope with this one's `messageId` came too early and was refused. */
  rateLimited: {
    field: 24,
    fields: {
      /** When to send it again, in milliseconds from now. */
      retryAfterMs: [1, 'int64'],
      reason: [2, 'string'],
    },
  },
} as const satisfies Readonly<Record<string, PayloadSchema>>;

type Payloads = typeof PAYLOADS;

/** The name of a payload. */
export type PayloadKind = keyof Payloads;

type Values<Fields> = {
  readonly [Name in keyof Fields]: Fields[Name] extends Field ? KindTypes[Fields[Name][1]] : never;
};

/** The payload of this kind. */
export type PayloadOf<Kind extends PayloadKind> = { readonly kind: Kind } & Values<Payloads[Kind]['fields']>;

/** What an envelope carries, told apart by `kind`. */
export type Payload = { [Kind in PayloadKind]: PayloadOf<Kind> }[PayloadKind];
