//! A connection to a relay, and what is done with all that comes over it.

use core::pin::pin;
use core::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use pinch_examples::mailbox::{ConfirmFault, Fresh, Mailbox, ReadError, Received};
use pinch_examples::sent_log::SentLog;
use pinch_proto::client::{Config, Event, Identity};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Address, Host, SecretKey, UnixMillis};
use pinch_tokio::{Client, ConnectError};
use prost::Message as _;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::notice::{Form, Notice, Refused, id_text};

/// How long leaving waits for a relay that is out of reach.
const PATIENCE: Duration = Duration::from_secs(5);

/// An agent that has joined.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    mailbox: Mailbox,
    sent: SentLog,
    form: Form,
    /// The last refusal of a message.
    refused: Option<Refused>,
}

/// What ends the tries to reach the relay, besides answers that will not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The first failure; once joined, the client's default.
    JoinAtOnce,
    /// So many failures in a row, at the start or later; `None` for no limit.
    Tries(Option<u32>),
}

impl Session {
    /// Joins the relay at `url`, to receive or, beside a process that does, only to send.
    pub(crate) async fn join(
        url: &str,
        (secret, sent): (SecretKey, SentLog),
        host: Host,
        patience: Patience,
        receives: bool,
        form: Form,
    ) -> Result<Self, Failure> {
        let identity = Identity::Key {
            secret: secret.clone(),
            host,
        };
        let config = match patience {
            Patience::JoinAtOnce => Config::new(),
            Patience::Tries(tries) => Config::new().max_tries(tries),
        };
        let mut builder = Client::builder(url, identity).config(config);
        if !receives {
            builder = builder.send_only();
        }
        let client = builder.start()?;
        let address = client.address();
        let mut session = Self {
            client,
            mailbox: Mailbox::new(secret, address),
            sent,
            form,
            refused: None,
        };
        loop {
            let event = session.client.next_event().await;
            let has_joined = matches!(event, Some(Event::Joined { .. }));
            match event {
                Some(Event::Disconnected { why, .. }) if patience == Patience::JoinAtOnce => {
                    return Err(ConnectError::Join(why).into());
                }
                event => session.handle(event)?,
            }
            if has_joined {
                return Ok(session);
            }
        }
    }

    /// Sends `text` to `to`, once there is room for it, and returns the message's id.
    pub(crate) async fn send(&mut self, to: &Address, text: &str) -> Result<Bytes, Failure> {
        let envelope = self.mailbox.write(to, text, Fresh::draw(now())?)?;
        let message_id = envelope.message_id.clone();
        self.remember(&message_id, to)?;
        let sender = self.client.sender();
        let sent = self
            .meanwhile(async move { sender.send(envelope).await })
            .await?;
        sent.map_err(|error| Failure::Send(error.reason))
    }

    /// Waits until the relay has all that was sent, and has said what it refuses.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        let sender = self.client.sender();
        self.meanwhile(async move { sender.flush().await })
            .await?
            .map_err(|_| Failure::Ended)?;
        // A refusal precedes what confirms the envelopes before it.
        while let Some(event) = self.client.next_event().now_or_never() {
            self.handle(event)?;
        }
        Ok(())
    }

    /// The last message that the relay has refused.
    pub(crate) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// Tells that `message_id` has reached the relay.
    pub(crate) fn print_sent(&self, message_id: &[u8]) -> Result<(), Failure> {
        self.print(&Notice::Sent {
            message_id: id_text(message_id),
        })
    }

    /// Waits for `work`, and deals with what comes meanwhile.
    ///
    /// # Cancel safety
    /// As that of `work`; nothing that came is lost.
    pub(crate) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return Ok(output),
                event = self.client.next_event() => self.handle(event)?,
            }
        }
    }

    /// Leaves the relay, after all that was sent has reached it, unless that takes too long.
    pub(crate) async fn leave(mut self) -> Result<(), Failure> {
        // Closing flushes too, but takes no events, without which nothing is read in the end.
        if let Ok(flushed) = timeout(PATIENCE, self.flush()).await {
            flushed?;
        }
        let unconfirmed = self.client.close().await.len();
        while let Some(event) = self.client.next_event().await {
            self.handle(Some(event))?;
        }
        if unconfirmed > 0 {
            Err(Failure::Unconfirmed { count: unconfirmed })
        } else {
            Ok(())
        }
    }

    fn handle(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::Received(envelope)) => self.receive(&envelope),
            Some(Event::Joined { address }) => {
                self.mailbox.set_address(address.clone());
                self.print(&Notice::Joined {
                    address: address.to_string(),
                })
            }
            Some(Event::Disconnected { why, .. }) => self.print(&Notice::Disconnected {
                reason: why.to_string(),
            }),
            Some(Event::GaveUp { why, .. }) => Err(why.into()),
            // `leave` waits for that one. Others are of no interest here.
            Some(Event::Closed { .. } | _) => Ok(()),
            None => Err(Failure::Ended),
        }
    }

    /// Notes what is sent where later processes find it. Without that, they only cannot tell what is
    /// confirmed, so it does not keep a message from being sent.
    fn remember(&self, message_id: &[u8], to: &Address) -> Result<(), Failure> {
        let Ok(key) = to.public_key() else {
            return Ok(());
        };
        match self.sent.remember(message_id, &key) {
            Ok(()) => Ok(()),
            Err(error) => self.print(&Notice::NotRemembered {
                message_id: id_text(message_id),
                reason: error.to_string(),
            }),
        }
    }

    /// Reads an envelope. One that confirms a message which this process does not know of may confirm
    /// one of an earlier process.
    fn read(&mut self, envelope: &[u8]) -> Result<Received, ReadError> {
        let error = match self.mailbox.read(envelope, now()) {
            Err(
                error @ ReadError::Confirm {
                    fault: ConfirmFault::UnknownMessage,
                    ..
                },
            ) => error,
            received => return received,
        };
        let payload = Envelope::decode(envelope)
            .ok()
            .and_then(|envelope| envelope.payload);
        let Some(Payload::DeliveryConfirm(confirm)) = payload else {
            return Err(error);
        };
        let Ok(Some(recipient)) = self.sent.recipient(&confirm.message_id) else {
            return Err(error);
        };
        self.mailbox.remember(confirm.message_id, recipient);
        self.mailbox.read(envelope, now())
    }

    fn receive(&mut self, envelope: &[u8]) -> Result<(), Failure> {
        let received = match self.read(envelope) {
            Ok(received) => received,
            Err(error) => {
                return self.print(&Notice::Rejected {
                    reason: error.to_string(),
                });
            }
        };
        let confirm = if let Received::Text { confirm, .. } = &received {
            Some(Envelope::clone(confirm))
        } else {
            None
        };
        let notice = Notice::from(received);
        if let Notice::Refused(refused) = &notice
            && !refused.is_confirmation
        {
            self.refused = Some(refused.clone());
        }
        self.print(&notice)?;
        // What a person has not seen is not confirmed.
        confirm.map_or(Ok(()), |confirm| self.confirm(confirm))
    }

    /// Sends a confirmation if there is room for it. Waiting for room here could take for ever,
    /// because nothing that comes is taken in the meantime.
    fn confirm(&self, confirm: Envelope) -> Result<(), Failure> {
        let message_id = confirm.message_id.clone();
        match self.client.try_send(confirm) {
            Ok(_) => Ok(()),
            Err(error) => self.print(&Notice::Unconfirmed {
                message_id: id_text(&message_id),
                reason: error.reason.to_string(),
            }),
        }
    }

    fn print(&self, notice: &Notice) -> Result<(), Failure> {
        self.form.print(notice).map_err(Failure::Output)
    }
}

fn now() -> UnixMillis {
    UnixMillis(Timestamp::now().as_millisecond())
}
