//! A connection to a relay, and what is done with all that comes over it.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::time::Duration;
use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use futures_util::{FutureExt as _, Sink as _};
use jiff::Timestamp;
use pinch_examples::mailbox::{ConfirmFault, Fresh, Mailbox, MessageFault, ReadError, Received};
use pinch_examples::seen_file::SeenFile;
use pinch_examples::sent_log::SentLog;
use pinch_examples::state_file::StateError;
use pinch_proto::client::{Config, Event, Identity, Unsendable};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Address, Host, SecretKey, UnixMillis};
use pinch_tokio::{Client, ConnectError, Sender, Tokio};
use prost::Message as _;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::notice::{Form, Notice, Refused, id_text};

/// How long leaving waits for a relay that is out of reach.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many events are dealt with before what they say is saved, all at once.
const BATCH: usize = 256;

/// How many confirmations may wait for room: some 8 MiB.
const MAX_CONFIRMATIONS: usize = 16_384;

/// An agent that has joined.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    mailbox: Mailbox,
    files: Files,
    form: Form,
    /// Confirmations of what was shown, which go out once that is saved and there is room.
    confirmations: VecDeque<Envelope>,
    /// The last refusal of a message.
    refused: Option<Refused>,
}

/// What is kept beside the key.
#[derive(Debug)]
pub(crate) struct Files {
    sent: SentLog,
    seen: SeenFile,
}

impl Files {
    pub(crate) fn beside(key: &Path) -> Self {
        Self {
            sent: SentLog::beside(key),
            seen: SeenFile::beside(key),
        }
    }
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
        (secret, mut files): (SecretKey, Files),
        host: Host,
        patience: Patience,
        receives: bool,
        form: Form,
    ) -> Result<Self, Failure> {
        let identity = Identity::Key {
            secret: secret.clone(),
            host: host.clone(),
        };
        let config = match patience {
            Patience::JoinAtOnce => Config::new(),
            Patience::Tries(tries) => Config::new().max_tries(tries),
        };
        let mut builder = Client::builder(url, identity).config(config);
        if !receives {
            builder = builder.send_only();
        }
        let address = Address::from_public_key(&secret.public_key(), &host);
        let mut mailbox = Mailbox::new(secret, address);
        files.seen.refresh(mailbox.seen())?;
        let mut session = Self {
            client: builder.start()?,
            mailbox,
            files,
            form,
            confirmations: VecDeque::new(),
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
        self.save()?;
        let sender = self.client.sender();
        let sent = self
            .meanwhile(async move { sender.send(envelope).await })
            .await?;
        sent.map_err(|error| Failure::Send(error.reason))
    }

    /// Waits until the relay has all that was sent, and has said what it refuses.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        loop {
            let sender = self.client.sender();
            self.meanwhile(async move { sender.flush().await })
                .await?
                .map_err(|_| Failure::Ended)?;
            // A refusal precedes what confirms the envelopes before it.
            self.handle_waiting()?;
            if self.confirmations.is_empty() {
                return Ok(());
            }
        }
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
        let mut sender = self.client.sender();
        loop {
            tokio::select! {
                output = &mut work => return Ok(output),
                event = self.client.next_event() => {
                    self.handle(event)?;
                    self.handle_waiting()?;
                }
                () = room(&mut sender), if !self.confirmations.is_empty() => self.confirm()?,
            }
        }
    }

    /// Deals with the events that wait, saves what they say, and confirms it.
    fn handle_waiting(&mut self) -> Result<(), Failure> {
        loop {
            let mut count = 0;
            while count < BATCH
                && let Some(event) = self.client.next_event().now_or_never()
            {
                self.handle(event)?;
                count += 1;
            }
            self.save()?;
            self.confirm()?;
            if count < BATCH {
                return Ok(());
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
        self.save()?;
        self.confirm()?;
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
    fn remember(&mut self, message_id: &[u8], to: &Address) -> Result<(), Failure> {
        let Ok(key) = to.public_key() else {
            return Ok(());
        };
        match self.files.sent.remember(message_id, &key) {
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
        let Ok(Some(recipient)) = self.files.sent.recipient(&confirm.message_id) else {
            return Err(error);
        };
        self.mailbox.remember(confirm.message_id, recipient);
        self.mailbox.read(envelope, now())
    }

    fn receive(&mut self, envelope: &[u8]) -> Result<(), Failure> {
        // Another process may have forgotten a sender, or heard from one.
        if let Err(error) = self.files.seen.refresh(self.mailbox.seen()) {
            self.print_unsaved(&error)?;
        }
        let received = match self.read(envelope) {
            Ok(received) => received,
            Err(ReadError::Message {
                from,
                message_id,
                fault: MessageFault::Replayed { sequence, last },
            }) => {
                return self.print(&Notice::Replayed {
                    from: from.to_string(),
                    message_id: id_text(&message_id),
                    sequence,
                    last,
                });
            }
            Err(error) => {
                return self.print(&Notice::Rejected {
                    reason: error.to_string(),
                });
            }
        };
        let confirm = if let Received::Text {
            confirm,
            message_id,
            ..
        } = &received
        {
            Some((message_id.clone(), confirm.clone()))
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
        match confirm {
            None => Ok(()),
            Some((id, Err(why))) => self.print_unconfirmed(&id, why.to_string()),
            Some((id, Ok(_))) if self.confirmations.len() >= MAX_CONFIRMATIONS => {
                self.print_unconfirmed(&id, "too many wait for the relay".into())
            }
            Some((_, Ok(confirm))) => {
                self.confirmations.push_back(*confirm);
                Ok(())
            }
        }
    }

    /// Writes down which messages have come, and who is no stranger. What cannot be saved does not
    /// keep messages from being read.
    fn save(&mut self) -> Result<(), Failure> {
        match self.files.seen.save(self.mailbox.seen()) {
            Ok(()) => Ok(()),
            Err(error) => self.print_unsaved(&error),
        }
    }

    /// Sends the confirmations for which there is room. Waiting for room here could take for ever,
    /// because nothing that comes is taken in the meantime.
    fn confirm(&mut self) -> Result<(), Failure> {
        while let Some(confirm) = self.confirmations.pop_front() {
            match self.client.try_send(confirm) {
                Ok(_) => {}
                Err(full) if full.reason == Unsendable::Full => {
                    self.confirmations.push_front(*full.envelope);
                    return Ok(());
                }
                Err(error) => {
                    self.print_unconfirmed(&error.envelope.message_id, error.reason.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn print_unconfirmed(&self, message_id: &[u8], reason: String) -> Result<(), Failure> {
        self.print(&Notice::Unconfirmed {
            message_id: id_text(message_id),
            reason,
        })
    }

    fn print_unsaved(&self, error: &StateError) -> Result<(), Failure> {
        self.print(&Notice::NotSaved {
            reason: error.to_string(),
        })
    }

    fn print(&self, notice: &Notice) -> Result<(), Failure> {
        self.form.print(notice).map_err(Failure::Output)
    }
}

/// Waits until the largest envelope could be sent.
async fn room(sender: &mut Sender<Tokio>) {
    // An error is said by sending.
    let _ = poll_fn(|cx| Pin::new(&mut *sender).poll_ready(cx)).await;
}

fn now() -> UnixMillis {
    UnixMillis(Timestamp::now().as_millisecond())
}
