//! The agents that a load is made of: a key each, and the address that it makes.

use pinch_proto::{Address, Host, SecretKey};

/// One agent.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) secret: SecretKey,
    pub(crate) address: Address,
}

/// Makes `count` agents that no run has had before: what a relay keeps for those of an earlier run
/// would come to them.
pub(crate) fn identities(count: usize, host: &Host) -> Result<Vec<Identity>, getrandom::Error> {
    let mut seed = [0; SecretKey::SEED_LEN];
    getrandom::fill(&mut seed)?;
    let of_number = |number: usize| {
        let mut seed = seed;
        for (byte, number) in seed.iter_mut().zip(number.to_le_bytes()) {
            *byte ^= number;
        }
        let secret = SecretKey::from_seed(seed);
        let address = Address::from_public_key(&secret.public_key(), host);
        Identity { secret, address }
    };
    Ok((0..count).map(of_number).collect())
}
