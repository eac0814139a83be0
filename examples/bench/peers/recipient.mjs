// Whom an envelope is for: the first field 3 of a protobuf message, if that is bytes.

/**
 * @param {Buffer} envelope
 * @returns {string | undefined}
 */
export function recipient(envelope) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= envelope.length || factor > 2 ** 49) throw new RangeError("no envelope");
      const byte = envelope[at++];
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  try {
    while (at < envelope.length) {
      const key = varint();
      switch (key & 7) {
        case 0:
          varint();
          break;
        case 1:
          at += 8;
          break;
        case 2: {
          const len = varint();
          if (key >> 3 === 3) return envelope.toString("latin1", at, at + len);
          at += len;
          break;
        }
        case 5:
          at += 4;
          break;
        default:
          return undefined;
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}
