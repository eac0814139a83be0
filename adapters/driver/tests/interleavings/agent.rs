//! An agent at the other end of a pipe, who speaks WebSocket and numbers its envelopes.

use std::collections::VecDeque;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use async_tungstenite::tungstenite::{Bytes, Message};
use futures_util::StreamExt as _;
use pinch_driver::proto::wire::{Envelope, MessageType};
use pinch_driver::proto::{Address, EnvelopeView};
use pinch_driver::{Relay, Upgrade};

use crate::pipe::{Pipe, pipe};
use crate::runtime::Interleaved;

/// What an agent hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An envelope with this number.
    Envelope(u8),
    /// The envelope with this number will not arrive.
    Refused(u8),
    /// That something waits for it.
    QueueStatus,
    Ping,
    Pong,
    /// A close frame with this code.
    Close(u16),
    /// The stream has ended.
    End,
}

pub(crate) struct Agent {
    socket: WebSocketStream<Pipe>,
    address: Address,
    /// What came before the pong that was waited for.
    ahead: VecDeque<Heard>,
}

pub(crate) fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@localhost")).unwrap()
}

impl Agent {
    /// Connects to `relay`, through a pipe of `capacity` bytes, as an agent that is vouched for.
    /// When it has joined is up to the schedule.
    pub(crate) async fn connect(relay: &Relay<Interleaved>, name: &str, capacity: usize) -> Self {
        let (near, far) = pipe(capacity);
        relay.adopt_upgraded(far, Upgrade::trusted().vouched_for(address(name)));
        Self::over(near, name).await
    }

    /// The agent behind `stream`, which speaks WebSocket already.
    pub(crate) async fn over(stream: Pipe, name: &str) -> Self {
        Self {
            socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
            address: address(name),
            ahead: VecDeque::new(),
        }
    }

    /// Connects to `relay`, has joined, and has answered the ping that comes first.
    pub(crate) async fn join(relay: &Relay<Interleaved>, name: &str, capacity: usize) -> Self {
        let mut agent = Self::connect(relay, name, capacity).await;
        assert_eq!(agent.next().await, Heard::Ping);
        assert!(agent.is_answered().await, "{name} has not joined");
        agent
    }

    /// Whether the relay answers a ping. If so, it has taken whatever was sent before.
    pub(crate) async fn is_answered(&mut self) -> bool {
        let ping = Message::Ping(Bytes::new());
        if self.socket.send(ping).await.is_err() {
            return false;
        }
        loop {
            match self.hear().await {
                Heard::Pong => return true,
                Heard::End => return false,
                heard @ (Heard::Envelope(_)
                | Heard::Refused(_)
                | Heard::QueueStatus
                | Heard::Ping
                | Heard::Close(_)) => self.ahead.push_back(heard),
            }
        }
    }

    /// Those of `numbers` that did not come while a pong was waited for.
    pub(crate) fn missing_of(&self, numbers: core::ops::Range<u8>) -> Vec<u8> {
        numbers
            .filter(|number| !self.ahead.contains(&Heard::Envelope(*number)))
            .collect()
    }

    /// Sends the envelope `number` to `name`. That the connection has ended is heard, not said here.
    pub(crate) async fn send(&mut self, name: &str, number: u8) {
        let envelope = Envelope {
            version: 1,
            from_address: self.address.as_str().into(),
            to_address: address(name).as_str().into(),
            r#type: MessageType::Message.into(),
            message_id: Bytes::copy_from_slice(&[number]),
            ..Envelope::default()
        };
        let _ = self.socket.send(Message::Binary(envelope.to_bytes())).await;
    }

    /// Sends a close frame. What comes can still be heard.
    pub(crate) async fn say_goodbye(&mut self) {
        let goodbye = CloseFrame {
            code: CloseCode::Normal,
            reason: "bye".into(),
        };
        self.socket.close(Some(goodbye)).await.unwrap();
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Heard {
        match self.ahead.pop_front() {
            Some(heard) => heard,
            None => self.hear().await,
        }
    }

    /// The number of the next envelope; `None` if there is none before the end.
    pub(crate) async fn envelope(&mut self) -> Option<u8> {
        loop {
            match self.next().await {
                Heard::Envelope(number) => return Some(number),
                Heard::End => return None,
                Heard::Refused(_)
                | Heard::QueueStatus
                | Heard::Ping
                | Heard::Pong
                | Heard::Close(_) => {}
            }
        }
    }

    /// Reads and answers until the end, as an agent does that has nothing more to say.
    pub(crate) async fn read_to_end(&mut self) {
        while self.next().await != Heard::End {}
    }

    async fn hear(&mut self) -> Heard {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                let envelope = EnvelopeView::parse(&bytes).unwrap();
                let number = || envelope.message_id()[0];
                match envelope.message_type() {
                    Some(MessageType::Message) => Heard::Envelope(number()),
                    Some(MessageType::QueueFull) => Heard::Refused(number()),
                    Some(MessageType::QueueStatus) => Heard::QueueStatus,
                    other => panic!("an envelope of type {other:?}"),
                }
            }
            Some(Ok(Message::Ping(_))) => Heard::Ping,
            Some(Ok(Message::Pong(_))) => Heard::Pong,
            Some(Ok(Message::Close(frame))) => Heard::Close(frame.unwrap().code.into()),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => panic!("no relay says this"),
            Some(Err(_)) | None => Heard::End,
        }
    }
}
