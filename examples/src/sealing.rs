//! End-to-end encryption between agents (protocol section 7).
//!
//! A message is a NaCl box (X25519, XSalsa20-Poly1305) between two keys that are derived from the
//! Ed25519 keys in the two addresses, so that knowing an address is enough to write to it. A box
//! says that one of the two wrote it; that it was the sender follows from `from_address`, which
//! [`open`] holds the payload against.

use bytes::Bytes;
use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use pinch_proto::wire::EncryptedPayload;
use pinch_proto::{PublicKey, SecretKey};
use thiserror::Error;

/// The length of a nonce, in bytes.
pub const NONCE_LEN: usize = 24;

/// These 32 bytes are no key to which anything could be encrypted: no point of the curve, or one
/// with which every box could be opened by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a usable Ed25519 key")]
pub struct UnusableKey(pub PublicKey);

/// Why a payload cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It names another key than the one in `from_address`.
    #[error("it names another key than its from_address does")]
    WrongSender,
    /// The sender's key is none.
    #[error(transparent)]
    UnusableKey(#[from] UnusableKey),
    /// The nonce has another length than all nonces have.
    #[error("its nonce has {len} bytes, expected {NONCE_LEN}")]
    WrongNonceLength {
        /// How many bytes it has.
        len: usize,
    },
    /// It was altered, or sealed by or for somebody else.
    #[error("it does not open with the two keys: altered, or not meant for this agent")]
    WrongKeysOrAltered,
}

/// The X25519 form of an Ed25519 public key.
///
/// # Errors
/// Not every 32 bytes are a key.
pub fn encryption_key(key: &PublicKey) -> Result<[u8; 32], UnusableKey> {
    match VerifyingKey::from_bytes(key.as_bytes()) {
        Ok(point) if !point.is_weak() => Ok(point.to_montgomery().to_bytes()),
        Ok(_) | Err(_) => Err(UnusableKey(*key)),
    }
}

/// Seals `plaintext` for the holder of `to`. No two calls with the same two keys may have the same
/// `nonce`: 24 random bytes never will.
///
/// # Errors
/// `to` is no key.
///
/// # Panics
/// Never.
pub fn seal(
    secret: &SecretKey,
    to: &PublicKey,
    nonce: [u8; NONCE_LEN],
    plaintext: &[u8],
) -> Result<EncryptedPayload, UnusableKey> {
    let ciphertext = shared(secret, to)?
        .encrypt(&nonce.into(), plaintext)
        .expect("a vector holds every ciphertext, and no plaintext exhausts the key stream");
    Ok(EncryptedPayload {
        nonce: Bytes::copy_from_slice(&nonce),
        ciphertext: ciphertext.into(),
        sender_public_key: Bytes::copy_from_slice(secret.public_key().as_bytes()),
    })
}

/// Opens what the holder of `from` sealed for the holder of `secret`. `from` is the key in the
/// envelope's `from_address`.
///
/// # Errors
/// [`OpenError`] says which check failed. Nothing of the payload can be trusted then.
pub fn open(
    secret: &SecretKey,
    from: &PublicKey,
    payload: &EncryptedPayload,
) -> Result<Vec<u8>, OpenError> {
    if payload.sender_public_key != from.as_bytes()[..] {
        return Err(OpenError::WrongSender);
    }
    let len = payload.nonce.len();
    let nonce: [u8; NONCE_LEN] = payload.nonce[..]
        .try_into()
        .map_err(|_| OpenError::WrongNonceLength { len })?;
    shared(secret, from)?
        .decrypt(&nonce.into(), &payload.ciphertext[..])
        .map_err(|_| OpenError::WrongKeysOrAltered)
}

fn shared(secret: &SecretKey, other: &PublicKey) -> Result<SalsaBox, UnusableKey> {
    // The first half of the seed's SHA-512; the box clamps it.
    let scalar = SigningKey::from_bytes(secret.seed()).to_scalar_bytes();
    Ok(SalsaBox::new(
        &encryption_key(other)?.into(),
        &scalar.into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> SecretKey {
        let mut seed = [0; 32];
        seed[31] = 1;
        SecretKey::from_seed(seed)
    }

    fn bob() -> SecretKey {
        SecretKey::from_seed([0xaa; 32])
    }

    fn nonce() -> [u8; NONCE_LEN] {
        core::array::from_fn(|at| u8::try_from(at).unwrap())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_vector_of_the_protocol() {
        assert_eq!(
            hex(&encryption_key(&alice().public_key()).unwrap()),
            "d92f5eeaa24fd4e66221c770f704a5e2639a476bab82cfec40bd2874abeb481f"
        );
        assert_eq!(
            hex(&encryption_key(&bob().public_key()).unwrap()),
            "552291f02c9317519633021302d0f7ba39b1cf32310e23ee7aa6a4312ae4a027"
        );
        let payload = seal(&alice(), &bob().public_key(), nonce(), b"Hello, Pinch!").unwrap();
        assert_eq!(
            hex(&payload.ciphertext),
            "38907320f7992d1e33b20e7ed610d72fcdbcc4499e61097af441442335"
        );
        assert_eq!(
            hex(&payload.nonce),
            "000102030405060708090a0b0c0d0e0f1011121314151617"
        );
        assert_eq!(
            payload.sender_public_key,
            alice().public_key().as_bytes()[..]
        );
        assert_eq!(
            open(&bob(), &alice().public_key(), &payload).unwrap(),
            b"Hello, Pinch!"
        );
    }

    #[test]
    fn every_altered_bit_is_noticed() {
        let payload = seal(&alice(), &bob().public_key(), nonce(), b"Hi").unwrap();
        for bit in 0..payload.ciphertext.len() * 8 {
            let mut ciphertext = payload.ciphertext.to_vec();
            ciphertext[bit / 8] ^= 1 << (bit % 8);
            let altered = EncryptedPayload {
                ciphertext: ciphertext.into(),
                ..payload.clone()
            };
            assert_eq!(
                open(&bob(), &alice().public_key(), &altered),
                Err(OpenError::WrongKeysOrAltered)
            );
        }
        for len in 0..payload.ciphertext.len() {
            let cut = EncryptedPayload {
                ciphertext: payload.ciphertext.slice(..len),
                ..payload.clone()
            };
            assert_eq!(
                open(&bob(), &alice().public_key(), &cut),
                Err(OpenError::WrongKeysOrAltered)
            );
        }
        let mut other = nonce();
        other[23] ^= 1;
        let altered = EncryptedPayload {
            nonce: Bytes::copy_from_slice(&other),
            ..payload
        };
        assert_eq!(
            open(&bob(), &alice().public_key(), &altered),
            Err(OpenError::WrongKeysOrAltered)
        );
    }

    #[test]
    fn a_nonce_has_24_bytes() {
        let payload = seal(&alice(), &bob().public_key(), nonce(), b"Hi").unwrap();
        for len in [0, 23, 25] {
            let altered = EncryptedPayload {
                nonce: vec![0; len].into(),
                ..payload.clone()
            };
            assert_eq!(
                open(&bob(), &alice().public_key(), &altered),
                Err(OpenError::WrongNonceLength { len })
            );
        }
    }

    #[test]
    fn the_sender_is_the_one_in_the_address() {
        let mallory = SecretKey::from_seed([0x66; 32]);
        let mut payload = seal(&mallory, &bob().public_key(), nonce(), b"It is me, Alice").unwrap();
        assert_eq!(
            open(&bob(), &alice().public_key(), &payload),
            Err(OpenError::WrongSender)
        );
        payload.sender_public_key = Bytes::copy_from_slice(alice().public_key().as_bytes());
        assert_eq!(
            open(&bob(), &alice().public_key(), &payload),
            Err(OpenError::WrongKeysOrAltered)
        );
    }

    #[test]
    fn what_is_no_key_gets_no_message() {
        // No point of the curve, the neutral element, and a point of order 4.
        let mut identity = [0; 32];
        identity[0] = 1;
        for bytes in [[2; 32], identity, [0; 32]] {
            let key = PublicKey::from_bytes(bytes);
            assert_eq!(
                seal(&alice(), &key, nonce(), b"Hi"),
                Err(UnusableKey(key)),
                "{bytes:?}"
            );
        }
    }
}
