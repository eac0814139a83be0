//! End-to-end encryption between agents (protocol section 7).
//!
//! A message is a NaCl box (X25519, XSalsa20-Poly1305) between two keys that are derived from the
//! Ed25519 keys in the two addresses, so that knowing an address is enough to write to it. A box
//! says that one of the two wrote it, but not which: a relay can hand an agent's own box back as its
//! peer's. So each nonce carries a mark that only its maker can compute, and [`open`] refuses what was
//! sealed by the same key. The mark needs no memory, and holds across restarts and processes. To
//! everybody else the nonce is random. What a program without marks has sealed with the same key is
//! not recognized.

use bytes::Bytes;
use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use pinch_proto::wire::EncryptedPayload;
use pinch_proto::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The length of a nonce, in bytes.
pub const NONCE_LEN: usize = 24;

/// The random part of a nonce, in bytes. The mark of its maker follows.
pub const RANDOM_LEN: usize = 16;

/// Separates the hash of a mark from all others that begin with a seed.
const MARK_DOMAIN: &[u8] = b"pinch-nonce-mark-v1\0";

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
    /// It was sealed with the key of this agent: somebody has handed it back.
    #[error("it is reflected: this agent sealed it, not its sender")]
    Reflected,
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
/// `random` bytes: those of the system never are.
///
/// # Errors
/// `to` is no key.
///
/// # Panics
/// Never.
pub fn seal(
    secret: &SecretKey,
    to: &PublicKey,
    random: [u8; RANDOM_LEN],
    plaintext: &[u8],
) -> Result<EncryptedPayload, UnusableKey> {
    let mut nonce = [0; NONCE_LEN];
    let (first, last) = nonce.split_at_mut(RANDOM_LEN);
    first.copy_from_slice(&random);
    last.copy_from_slice(&mark(secret, to, &random));
    encrypt(secret, to, nonce, plaintext)
}

fn encrypt(
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

/// The end of a nonce of the holder of `secret` in a box for `to`. All inputs have a fixed length,
/// and most of the hash is cut off, so that nobody can extend one or compute another. A nonce of
/// somebody else has this mark with a probability of 2⁻⁶⁴.
fn mark(secret: &SecretKey, to: &PublicKey, random: &[u8]) -> [u8; NONCE_LEN - RANDOM_LEN] {
    let hash = Sha256::new()
        .chain_update(MARK_DOMAIN)
        .chain_update(secret.seed())
        .chain_update(to.as_bytes())
        .chain_update(random)
        .finalize();
    core::array::from_fn(|at| hash[at])
}

/// Opens what the holder of `from` sealed for the holder of `secret`. `from` is the key in the
/// envelope's `from_address`. Every nonce of 24 bytes is accepted, but those of one's own.
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
    let (random, end) = nonce.split_at(RANDOM_LEN);
    // A note to oneself is sealed here and comes from here.
    if end == mark(secret, from, random) && *from != secret.public_key() {
        return Err(OpenError::Reflected);
    }
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

    fn random() -> [u8; RANDOM_LEN] {
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
        let payload = encrypt(&alice(), &bob().public_key(), nonce(), b"Hello, Pinch!").unwrap();
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
        let payload = seal(&alice(), &bob().public_key(), random(), b"Hi").unwrap();
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
        let mut other = payload.nonce.to_vec();
        other[23] ^= 1;
        let altered = EncryptedPayload {
            nonce: other.into(),
            ..payload
        };
        assert_eq!(
            open(&bob(), &alice().public_key(), &altered),
            Err(OpenError::WrongKeysOrAltered)
        );
    }

    #[test]
    fn a_nonce_has_24_bytes() {
        let payload = seal(&alice(), &bob().public_key(), random(), b"Hi").unwrap();
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
        let mut payload =
            seal(&mallory, &bob().public_key(), random(), b"It is me, Alice").unwrap();
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

    /// `payload` as if `key` had sealed it.
    fn reflected(payload: &EncryptedPayload, key: &SecretKey) -> EncryptedPayload {
        EncryptedPayload {
            sender_public_key: Bytes::copy_from_slice(key.public_key().as_bytes()),
            ..payload.clone()
        }
    }

    #[test]
    fn what_was_sealed_here_does_not_open() {
        let payload = seal(&alice(), &bob().public_key(), random(), b"Hi").unwrap();
        assert_eq!(
            open(&alice(), &bob().public_key(), &reflected(&payload, &bob())),
            Err(OpenError::Reflected)
        );
        // Whose box it is shows only with the peer that it was sealed for.
        let carol = SecretKey::from_seed([3; 32]);
        assert_eq!(
            open(&alice(), &carol.public_key(), &reflected(&payload, &carol)),
            Err(OpenError::WrongKeysOrAltered)
        );
    }

    #[test]
    fn a_note_to_oneself_opens() {
        let payload = seal(&alice(), &alice().public_key(), random(), b"Hi").unwrap();
        let opened = open(&alice(), &alice().public_key(), &payload);
        assert_eq!(opened.unwrap(), b"Hi");
    }

    #[test]
    fn a_nonce_shows_neither_its_maker_nor_its_recipient() {
        let nonces = [(alice(), bob()), (bob(), alice()), (alice(), alice())].map(|(from, to)| {
            seal(&from, &to.public_key(), random(), b"Hi")
                .unwrap()
                .nonce
        });
        for (at, nonce) in nonces.iter().enumerate() {
            assert_eq!(nonce[..RANDOM_LEN], random());
            let ends = nonces[..at].iter().map(|other| &other[RANDOM_LEN..]);
            assert!(ends.into_iter().all(|end| *end != nonce[RANDOM_LEN..]));
        }
    }

    #[test]
    fn what_is_no_key_gets_no_message() {
        // No point of the curve, the neutral element, and a point of order 4.
        let mut identity = [0; 32];
        identity[0] = 1;
        for bytes in [[2; 32], identity, [0; 32]] {
            let key = PublicKey::from_bytes(bytes);
            assert_eq!(
                seal(&alice(), &key, random(), b"Hi"),
                Err(UnusableKey(key)),
                "{bytes:?}"
            );
        }
    }
}
