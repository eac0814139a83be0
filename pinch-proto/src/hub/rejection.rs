//! Rejections: why an envelope does not arrive, and how its sender hears it (QUEUE_FULL, protocol
//! section 4).

use alloc::string::String;

use bytes::Bytes;

use super::Hub;
use super::connection::Connection;
use super::core::Core;
use super::io::ConnId;
use crate::queue::{Failure, Refusal};
use crate::wire::{Envelope, Payload, QueueFull};
use crate::{Address, EnvelopeView, Frame};

/// Why an envelope will not reach its recipient: the reason in QUEUE_FULL (protocol section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RejectReason {
    #[error("recipient is offline and no queue is configured")]
    Offline,
    #[error("recipient left before the envelope was sent to it, and no queue is configured")]
    Left,
    #[error("recipient left before it confirmed the envelope, which may have arrived")]
    Unacked,
    #[error(
        "recipient's outbox is full: at most {bytes} bytes or {count} envelopes wait for a connection"
    )]
    OutboxFull { bytes: usize, count: usize },
    #[error("{0}")]
    QueueFull(Refusal),
    #[error(
        "recipient's queue is full, and this envelope gave way to one of a sender with fewer in it"
    )]
    GaveWay,
    #[error("{0}")]
    NotStored(Failure),
    #[error("relay's store is too busy: it owes answers for {limit} bytes")]
    StoreBusy { limit: usize },
    #[error("relay's store does not answer; the envelope may arrive nevertheless")]
    StoreSilent,
    #[error("envelope of {bytes} bytes over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("to_address is no address of this relay: {0}")]
    NotAnAddress(NotAnAddress),
    #[error("relay is too busy: {limit} bytes are on their way to the recipient's shard")]
    ShardBusy { limit: usize },
    #[error("relay is out of memory for envelopes: at most {limit} bytes wait in all")]
    OutOfMemory { limit: usize },
    #[error("{0}; the change holds until the relay restarts")]
    ChangeNotStored(Failure),
    #[error("relay's store does not answer; the change may hold only until the relay restarts")]
    ChangeUnanswered,
    #[error("block list is full")]
    BlockListFull,
    #[error("blocked_address is no address of this relay: {0}")]
    BlockedIsNoAddress(NotAnAddress),
}

/// What is wrong with a `to_address`, or with what is to be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnAddress {
    #[error("it does not parse")]
    Malformed,
    #[error("its host is another")]
    OtherHost,
    #[error("it is not a key with its checksum")]
    NotAKey,
}

impl From<RejectReason> for String {
    fn from(reason: RejectReason) -> Self {
        alloc::format!("{reason}")
    }
}

/// The longest message id that a rejection repeats, in bytes: enough for any id, too short to make
/// rejections expensive.
const MAX_ECHOED_ID: usize = 64;

/// The longest `to_address` that a rejection repeats, in bytes.
const MAX_ECHOED_ADDRESS: usize = 256;

impl Core {
    /// Tells a sender that an envelope of it will not arrive, and why.
    pub(super) fn reject(
        &mut self,
        sender: &mut Connection,
        view: &EnvelopeView<'_>,
        reason: RejectReason,
    ) {
        self.notify(sender, queue_full(view, reason), view);
    }

    /// Says something about the envelope `about` to its sender.
    pub(super) fn notify(
        &mut self,
        sender: &mut Connection,
        payload: Payload,
        about: &EnvelopeView<'_>,
    ) {
        let message = self.notice(about, payload, sender.address.as_str());
        self.send_control(sender, Frame::Message(message));
    }

    /// The envelope that tells a rejection.
    pub(super) fn rejection(&self, view: &EnvelopeView<'_>, reason: RejectReason) -> Bytes {
        let to = Address::normalized(view.from_address());
        self.notice(view, queue_full(view, reason), &to)
    }

    /// An envelope of the relay about the envelope `about`.
    fn notice(&self, about: &EnvelopeView<'_>, payload: Payload, to: &str) -> Bytes {
        let mut envelope = Envelope::from_relay(payload, self.clock.unix());
        if about.message_id().len() <= MAX_ECHOED_ID {
            envelope.message_id = Bytes::copy_from_slice(about.message_id());
        }
        envelope.to_address = to.into();
        envelope.to_bytes()
    }
}

impl Hub {
    /// Tells the sender of `message` what became of it: the connection that sent it, if that is known
    /// and still listens, else another one of its address.
    pub(super) fn report_rejection(
        &mut self,
        author: Option<ConnId>,
        message: &Bytes,
        reason: RejectReason,
    ) {
        let Ok(view) = EnvelopeView::parse(message) else {
            return;
        };
        let Self { connections, core } = self;
        if let Some(shard) = core.other_shard(view.from_address()) {
            let rejection = core.rejection(&view, reason);
            core.send_rejection(shard, rejection, false);
        } else if let Some(sender) = connections.listener(author, view.from_address()) {
            core.reject(sender, &view, reason);
        }
    }

    /// Tells the sender of `message` that the envelope gave way to another, if it is there and reads
    /// what it is told.
    pub(super) fn report_displaced(&mut self, message: &Bytes) {
        self.core.stats.displaced += 1;
        let Ok(view) = EnvelopeView::parse(message) else {
            return;
        };
        let Self { connections, core } = self;
        if let Some(shard) = core.other_shard(view.from_address()) {
            let rejection = core.rejection(&view, RejectReason::GaveWay);
            core.send_rejection(shard, rejection, true);
        } else if let Some(sender) = connections.listener(None, view.from_address())
            && !sender.is_congested(&core.outbox_limits)
        {
            core.reject(sender, &view, RejectReason::GaveWay);
        }
    }
}

/// Says that an envelope will not arrive, and why.
fn queue_full(view: &EnvelopeView<'_>, reason: RejectReason) -> Payload {
    let to = view.to_address();
    let end = (0..=to.len().min(MAX_ECHOED_ADDRESS))
        .rev()
        .find(|&at| to.is_char_boundary(at))
        .unwrap_or(0);
    Payload::QueueFull(QueueFull {
        recipient_address: to.get(..end).unwrap_or_default().into(),
        reason: reason.into(),
    })
}
