//! Ed25519 keys and signatures, without the library behind them.
//!
//! Three newtypes over bytes, so that the version of the signature library never shows in this
//! crate's API. How a key becomes an address is said in [`Address`](crate::Address); what is signed
//! when somebody joins is decided by the handshake. Where secret bytes come from (a file, a random
//! generator) is the caller's business.

use core::array::TryFromSliceError;
use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// An agent's Ed25519 public key.
///
/// Any 32 bytes make one: whether they are a point of the curve shows only in
/// [`verify_strict`](Self::verify_strict), which then refuses every signature.
///
/// ```
/// use pinch_proto::{PublicKey, SecretKey};
///
/// let secret = SecretKey::from_seed([0xaa; 32]);
/// let public = PublicKey::try_from(&secret.public_key().as_bytes()[..])?;
/// let signature = secret.sign(b"hello");
/// assert!(public.verify_strict(b"hello", &signature));
/// assert!(!public.verify_strict(b"goodbye", &signature));
/// # Ok::<(), core::array::TryFromSliceError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; Self::LEN]);

impl PublicKey {
    /// The length of a public key, in bytes.
    pub const LEN: usize = 32;

    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of this key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether `signature` is this key's signature over `message`.
    ///
    /// Strict means that these are refused too: keys and commitments of small order (for some of
    /// them one signature fits many messages) and signatures whose scalar is not reduced (a third
    /// party could have made them from a valid one).
    #[must_use]
    pub fn verify_strict(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = TryFromSliceError;

    /// Fails unless `bytes` are exactly [`PublicKey::LEN`].
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", Abbreviated(&self.0))
    }
}

/// An agent's Ed25519 secret key. It is overwritten when it is dropped, and never printed.
///
/// ```
/// use pinch_proto::SecretKey;
///
/// let secret = SecretKey::from_seed([0xaa; 32]);
/// assert_eq!(secret.seed(), &[0xaa; 32]);
/// assert_eq!(format!("{secret:?}"), "SecretKey(of PublicKey(e734ea6c..))");
/// ```
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The length of a seed, in bytes.
    pub const SEED_LEN: usize = 32;

    /// The key that grows from `seed`: 32 random bytes that nobody else may ever see.
    #[must_use]
    pub fn from_seed(seed: [u8; Self::SEED_LEN]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed of this key.
    #[must_use]
    pub fn seed(&self) -> &[u8; Self::SEED_LEN] {
        self.0.as_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// This key's signature over `message`. The same message always gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public_key())
    }
}

/// An Ed25519 signature.
///
/// ```
/// use pinch_proto::{SecretKey, Signature};
///
/// let signature = SecretKey::from_seed([0xaa; 32]).sign(b"hello");
/// assert_eq!(Signature::try_from(&signature.as_bytes()[..])?, signature);
/// assert!(Signature::try_from(&signature.as_bytes()[1..]).is_err());
/// # Ok::<(), core::array::TryFromSliceError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; Self::LEN]);

impl Signature {
    /// The length of a signature, in bytes.
    pub const LEN: usize = 64;

    /// The signature with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of this signature.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = TryFromSliceError;

    /// Fails unless `bytes` are exactly [`Signature::LEN`].
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", Abbreviated(&self.0))
    }
}

/// The first four bytes in hex: enough to tell keys apart in a log.
struct Abbreviated<'a>(&'a [u8]);

impl fmt::Display for Abbreviated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 2: seed, public key, signature over the byte 0x72.
    const SEED: [u8; 32] = hex(b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    const PUBLIC: [u8; 32] =
        hex(b"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    const SIGNATURE: [u8; 64] = hex(
        b"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
          085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    /// The order of the group: adding it to a signature's scalar changes nothing but its bytes.
    const ORDER: [u8; 32] =
        hex(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");

    const fn hex<const N: usize>(text: &[u8]) -> [u8; N] {
        const fn digit(byte: u8) -> u8 {
            if byte.is_ascii_digit() {
                byte - b'0'
            } else {
                byte - b'a' + 10
            }
        }
        let mut bytes = [0; N];
        let mut at = 0;
        assert!(text.len() == 2 * N);
        while at < N {
            bytes[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
            at += 1;
        }
        bytes
    }

    #[test]
    fn known_answer() {
        let secret = SecretKey::from_seed(SEED);
        let public = secret.public_key();
        let signature = secret.sign(&[0x72]);
        assert_eq!(secret.seed(), &SEED);
        assert_eq!(public.as_bytes(), &PUBLIC);
        assert_eq!(signature.as_bytes(), &SIGNATURE);
        assert!(public.verify_strict(&[0x72], &signature));
        assert!(!public.verify_strict(&[0x73], &signature));
        assert!(!public.verify_strict(&[], &signature));
        assert!(
            !SecretKey::from_seed(PUBLIC)
                .public_key()
                .verify_strict(&[0x72], &signature)
        );
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        // Every byte, and each of its bits in turn.
        for bit in (0..512).step_by(7) {
            let mut bytes = SIGNATURE;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !PublicKey(PUBLIC).verify_strict(&[0x72], &Signature(bytes)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        let mut bytes = SIGNATURE;
        let mut carry = 0;
        for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*byte) + u16::from(order);
            [*byte, _] = carry.to_le_bytes();
            carry >>= 8;
        }
        assert_eq!(carry, 0);
        assert!(!PublicKey(PUBLIC).verify_strict(&[0x72], &Signature(bytes)));
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        // The neutral element as key and commitment, and the scalar 0: that fits every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let lenient = VerifyingKey::from_bytes(&neutral).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&bytes);
        assert!(ed25519_dalek::Verifier::verify(&lenient, b"anything", &signature).is_ok());

        assert!(!PublicKey(neutral).verify_strict(b"anything", &Signature(bytes)));
    }

    #[test]
    fn bytes_that_are_no_point_verify_nothing() {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert!(VerifyingKey::from_bytes(&bytes).is_err());
        assert!(!PublicKey(bytes).verify_strict(&[0x72], &Signature(SIGNATURE)));
    }

    #[test]
    fn lengths_are_checked() {
        for len in 0..=65 {
            let bytes = std::vec![7; len];
            assert_eq!(PublicKey::try_from(&bytes[..]).is_ok(), len == 32);
            assert_eq!(Signature::try_from(&bytes[..]).is_ok(), len == 64);
        }
    }

    #[test]
    fn debug_is_short_and_keeps_the_secret() {
        assert_eq!(
            std::format!("{:?}", PublicKey(PUBLIC)),
            "PublicKey(3d4017c3..)"
        );
        assert_eq!(
            std::format!("{:?}", Signature(SIGNATURE)),
            "Signature(92a009a9..)"
        );
        assert_eq!(
            std::format!("{:?}", SecretKey::from_seed(SEED)),
            "SecretKey(of PublicKey(3d4017c3..))"
        );
    }

    #[test]
    fn a_secret_is_overwritten_when_dropped() {
        // The library implements Drop for this alone, and only with its feature `zeroize`.
        assert!(core::mem::needs_drop::<SecretKey>());
    }
}
