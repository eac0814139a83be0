//! Decisions that are left to whoever runs a relay, each with a name.

/// What happens when an address joins that is connected already (protocol section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// The second connection is refused; the first is pinged at once, so that a dead one does not
    /// keep the address for longer than the pong timeout.
    #[default]
    Refuse,
    /// The second connection takes over, with what waits for the first, which is closed with 4001.
    Replace,
}

/// Who may be a recipient, besides those who are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Addressing {
    /// An address is a key with a checksum at this relay's host (challenge mode).
    #[default]
    Keys,
    /// An address is any name (open mode).
    Names,
}

/// What is done so that an envelope arrives which was given to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// It is kept until the recipient has confirmed it, by the pong of a ping that went behind it.
    /// If the recipient's connection ends before, it goes back to the recipient's queue, and may
    /// arrive twice; without a queue, the sender is told that it may have arrived.
    #[default]
    AtLeastOnce,
    /// It is forgotten as soon as it was given to the recipient's socket; one from the queue, as
    /// soon as it was read. What is lost with the connection is only counted
    /// ([`HubStats::unconfirmed`](crate::hub::HubStats::unconfirmed)).
    AtMostOnce,
}

/// Whether a close handshake that the peer began acknowledges what it was sent (protocol section 4).
///
/// Programs that run for a moment join, take their queue, and close; a WebSocket library that is
/// closing delivers what still comes, and answers no ping any more. Without an acknowledgement, each
/// run gets the end of the queue again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AckOnClose {
    /// It does, if the close handshake was clean: the peer sent its close frame first, the relay's
    /// went out behind everything else, and then the peer ended the stream, without an error and
    /// within [`Config::close_timeout`](crate::hub::Config::close_timeout). It does not for browsers,
    /// which discard what arrives after their own close, nor for clients that deduplicate
    /// ([`JoinOptions`](crate::hub::JoinOptions)).
    ///
    /// A peer that exits behind its close frame, without waiting for the relay's, may acknowledge what
    /// was still on its way to it: within a round trip, its end of stream cannot be told from one that
    /// waited. It acknowledges nothing only if its stream is reset, or has ended when its close frame
    /// is read. Such clients announce `dedup=1`, or the relay is run with [`Never`](Self::Never).
    #[default]
    Clean,
    /// It never does: only pongs acknowledge. What was not acknowledged is redelivered.
    Never,
}

/// What happens when a connected recipient reads so slowly that its outbox, or the memory of the
/// hub, is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SlowReader {
    /// What comes goes to its queue, and is read from there as its outbox drains, in order. Without
    /// a queue, this is [`Refuse`](Self::Refuse).
    #[default]
    Spill,
    /// The sender is told.
    Refuse,
    /// The recipient is closed with 1008 `too slow`. What waits for it goes to its queue; without
    /// one, the senders are told. Where only the memory of the hub is full, nobody is closed for
    /// what others take: the sender is told.
    Disconnect,
}
