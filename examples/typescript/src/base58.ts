/** Base58 with the alphabet of Bitcoin: how addresses write a key. */

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** The text that stands for `bytes`. Quadratic in their number, of which a key has 36. */
export function encodeBase58(bytes: Uint8Array): string {
  // The digits of the number that the bytes are, the lowest first.
  const digits: number[] = [];
  for (const byte of bytes) {
    let carry = byte;
    for (const [at, digit] of digits.entries()) {
      carry += digit * 256;
      digits[at] = carry % 58;
      carry = Math.floor(carry / 58);
    }
    for (; carry > 0; carry = Math.floor(carry / 58)) digits.push(carry % 58);
  }
  // Zeros in front do not change the number, so each is written as a digit of its own.
  const zeros = leading(bytes, 0);
  return (
    '1'.repeat(zeros) +
    digits
      .reverse()
      .map((digit) => ALPHABET.charAt(digit))
      .join('')
  );
}

/** The bytes that `text` stands for, or where the first character is that no digit is. */
export function decodeBase58(text: string): Uint8Array | { readonly wrongAt: number } {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    let carry = ALPHABET.indexOf(text.charAt(at));
    if (carry < 0) return { wrongAt: at };
    for (const [place, byte] of bytes.entries()) {
      carry += byte * 58;
      bytes[place] = carry & 0xff;
      carry >>= 8;
    }
    for (; carry > 0; carry >>= 8) bytes.push(carry & 0xff);
  }
  const zeros = leading([...text], '1');
  return Uint8Array.from([...Array<number>(zeros).fill(0), ...bytes.reverse()]);
}

/** How many times `value` stands at the front of `values`. */
function leading<T>(values: ArrayLike<T>, value: T): number {
  let count = 0;
  while (count < values.length && values[count] === value) count += 1;
  return count;
}
