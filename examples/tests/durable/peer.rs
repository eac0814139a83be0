//! An agent that does nothing by itself: it reads, and so answers pings, only while it is told to.

use core::net::SocketAddr;
use std::net::TcpStream;

use bytes::Bytes;
use pinch_proto::wire::{
    BlockNotification, EncryptedPayload, Envelope, MessageType, Payload, QueueFull,
};
use prost::Message as _;
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;
use crate::relay::Relay;

/// What the system keeps for a reader that does not read, at least.
const SOCKET_BUFFER: usize = 16 * 1024;

/// The address of somebody.
pub(crate) fn address(name: &str) -> String {
    format!("pinch:{name}@localhost")
}

/// Somebody who has joined.
pub(crate) struct Peer {
    socket: WebSocket<TcpStream>,
    name: String,
}

/// What an agent may hear.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message, by its sender's name and its number. It has the length and the bytes that it
    /// should.
    Message(String, u64),
    /// So many envelopes wait.
    QueueStatus(i32),
    /// What has become of the message with that number.
    Refused(u64, QueueFull),
}

impl Peer {
    pub(crate) fn join(relay: &Relay, name: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        // Before it is connected: the window that is offered depends on it.
        socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
        let to: SocketAddr = relay.address.parse().unwrap();
        socket.connect(&to.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{}/ws?address={}", relay.address, address(name));
        let request = url.into_client_request().unwrap();
        let (socket, _) = tungstenite::client::client(request, stream).unwrap();
        Self {
            socket,
            name: name.to_owned(),
        }
    }

    /// Sends a message of `len` bytes and a little more.
    pub(crate) fn send(&mut self, to: &str, number: u64, len: usize) {
        self.try_send(to, number, len).unwrap();
    }

    pub(crate) fn try_send(
        &mut self,
        to: &str,
        number: u64,
        len: usize,
    ) -> Result<(), tungstenite::Error> {
        let payload = EncryptedPayload {
            ciphertext: bytes_of(number, len),
            ..EncryptedPayload::default()
        };
        let payload = Payload::Encrypted(payload);
        self.say(to, MessageType::Message, number, payload)
    }

    pub(crate) fn block(&mut self, whom: &str) {
        let payload = Payload::BlockNotification(BlockNotification {
            blocker_address: address(&self.name),
            blocked_address: address(whom),
        });
        self.say(whom, MessageType::BlockNotification, 0, payload)
            .unwrap();
    }

    fn say(
        &mut self,
        to: &str,
        kind: MessageType,
        number: u64,
        payload: Payload,
    ) -> Result<(), tungstenite::Error> {
        let envelope = Envelope {
            version: 1,
            from_address: address(&self.name),
            to_address: address(to),
            r#type: kind.into(),
            message_id: Bytes::copy_from_slice(&number.to_be_bytes()),
            payload: Some(payload),
            ..Envelope::default()
        };
        self.socket.send(Message::Binary(envelope.to_bytes()))
    }

    /// What comes next.
    pub(crate) fn hear(&mut self) -> Heard {
        loop {
            let message = self.socket.read().unwrap();
            // The answer to a ping must not wait for what this one says next.
            self.socket.flush().unwrap();
            assert!(!message.is_close(), "{message:?}");
            if let Message::Binary(message) = message {
                return understand(&message);
            }
        }
    }

    /// The numbers of the next `count` messages, all of which are from `sender`.
    pub(crate) fn messages(&mut self, sender: &str, count: usize) -> Vec<u64> {
        let mut next = || {
            let heard = self.hear();
            let Heard::Message(from, number) = heard else {
                panic!("expected a message, heard {heard:?}");
            };
            assert_eq!(from, address(sender));
            number
        };
        (0..count).map(|_| next()).collect()
    }

    /// How many envelopes wait, which is what comes next.
    pub(crate) fn queue_status(&mut self) -> usize {
        let heard = self.hear();
        let Heard::QueueStatus(pending) = heard else {
            panic!("expected a status, heard {heard:?}");
        };
        pending.try_into().unwrap()
    }

    /// Which message was refused, and why, which is what comes next.
    pub(crate) fn refusal(&mut self) -> (u64, QueueFull) {
        let heard = self.hear();
        let Heard::Refused(number, about) = heard else {
            panic!("expected a refusal, heard {heard:?}");
        };
        (number, about)
    }

    /// Vanishes as a machine does that is switched off: with a reset, instead of an end.
    pub(crate) fn reset(self) {
        let stream = self.socket.get_ref();
        let socket = socket2::SockRef::from(stream);
        socket.set_linger(Some(core::time::Duration::ZERO)).unwrap();
    }
}

/// The bytes of the message with that number.
fn bytes_of(number: u64, len: usize) -> Bytes {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let byte = |_| {
        random = random.rotate_left(5).wrapping_mul(0x2545_f491_4f6c_dd1d);
        random.to_le_bytes()[7]
    };
    (0..len).map(byte).collect()
}

fn understand(message: &[u8]) -> Heard {
    let envelope = Envelope::decode(message).unwrap();
    let id = envelope.message_id.as_ref().try_into();
    let number = || u64::from_be_bytes(id.unwrap());
    let payload = envelope.payload.unwrap();
    if let Payload::Encrypted(payload) = payload {
        let expected = bytes_of(number(), payload.ciphertext.len());
        assert!(payload.ciphertext == expected, "verbatim");
        Heard::Message(envelope.from_address, number())
    } else if let Payload::QueueStatus(status) = payload {
        Heard::QueueStatus(status.pending_count)
    } else if let Payload::QueueFull(refused) = payload {
        Heard::Refused(number(), refused)
    } else {
        panic!("nobody here says {payload:?}");
    }
}
