//! Agents that use the driver's own client.

use pinch_driver::proto::client::{Event, Identity};
use pinch_driver::proto::hub;
use pinch_driver::proto::wire::{EncryptedPayload, Envelope, Payload};
use pinch_driver::proto::{Address, Host, SecretKey};
use pinch_driver::{ClientBuilder, Runtime};
use prost::Message as _;

use crate::relays::{self, Relay};
use crate::tracked::Tracked;
use crate::wait::soon;

/// A client on a runtime that is watched.
pub(crate) type Client<R> = pinch_driver::Client<Tracked<R>>;

pub(crate) fn host() -> Host {
    Host::parse("localhost").expect("it works")
}

pub(crate) fn hub_config() -> hub::Config {
    hub::Config::new(host()).rate_limit(None).join_limit(None)
}

/// A relay for these agents, in challenge mode.
pub(crate) async fn relay<R: Runtime>(runtime: &Tracked<R>) -> Relay<Tracked<R>> {
    relays::challenge(runtime, hub_config()).await
}

pub(crate) fn url<R: Runtime>(relay: &Relay<Tracked<R>>) -> String {
    format!("ws://{}/ws", relay.local_addr().expect("it works"))
}

/// The identity of the key number `seed`.
pub(crate) fn key(seed: u8) -> Identity {
    Identity::Key {
        secret: SecretKey::from_seed([seed; 32]),
        host: host(),
    }
}

/// The settings of a client.
pub(crate) fn client<R: Runtime>(
    runtime: &Tracked<R>,
    url: String,
    identity: Identity,
) -> ClientBuilder<Tracked<R>> {
    Client::builder_on(runtime.clone(), url, identity)
}

/// A client that has joined with the key number `seed`.
pub(crate) async fn agent<R: Runtime>(
    runtime: &Tracked<R>,
    relay: &Relay<Tracked<R>>,
    seed: u8,
) -> Client<R> {
    let builder = client(runtime, url(relay), key(seed));
    soon("what a client does", builder.connect())
        .await
        .expect("it works")
}

/// A MESSAGE with `text` for a ciphertext.
pub(crate) fn message(to: &Address, text: &str) -> Envelope {
    let ciphertext = text.to_owned().into();
    Envelope {
        to_address: to.as_str().into(),
        payload: Some(Payload::Encrypted(EncryptedPayload {
            ciphertext,
            ..EncryptedPayload::default()
        })),
        ..Envelope::default()
    }
}

/// The envelope that comes next.
pub(crate) async fn received<R: Runtime>(client: &mut Client<R>) -> Envelope {
    match soon("what a client does", client.next_event()).await {
        Some(Event::Received(bytes)) => Envelope::decode(bytes).expect("it works"),
        other => panic!("expected an envelope, got {other:?}"),
    }
}

/// The text of such a message.
pub(crate) fn text(envelope: &Envelope) -> String {
    match &envelope.payload {
        Some(Payload::Encrypted(encrypted)) => {
            String::from_utf8(encrypted.ciphertext.to_vec()).expect("it works")
        }
        other => panic!("expected a message, got {other:?}"),
    }
}
