//! What became of each envelope: exactly one thing, at any time.
//!
//! An envelope gets a fate when it is accepted, and another one each time when it is read from the
//! store. A fate may change while it is open; once it is settled, it stays.

/// Where an envelope is, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its recipient's socket.
    Queued,
    /// The socket has it; whether it arrives is open.
    Given,
    /// The store has it, and has not said that it keeps it.
    Storing,
    /// It has arrived.
    Delivered,
    /// It did not leave the relay, and its sender was told.
    Returned,
    /// It may have arrived.
    Unconfirmed,
    /// The store keeps it.
    Stored,
    /// Its recipient has blocked its sender.
    Discarded,
    /// It was read, was not confirmed, and is in the store still.
    Kept,
}

impl Fate {
    const fn is_settled(self) -> bool {
        match self {
            Self::Queued | Self::Given | Self::Storing => false,
            Self::Delivered
            | Self::Returned
            | Self::Unconfirmed
            | Self::Stored
            | Self::Discarded
            | Self::Kept => true,
        }
    }
}

/// Names the fate of one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FateId(usize);

/// All fates since the hub began.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates(Vec<Fate>);

impl Fates {
    /// The fate of an envelope that was accepted or read just now.
    pub(super) fn begin(&mut self, fate: Fate) -> FateId {
        self.0.push(fate);
        FateId(self.0.len() - 1)
    }

    pub(super) fn set(&mut self, id: FateId, fate: Fate) {
        let before = &mut self.0[id.0];
        assert!(!before.is_settled(), "{before:?} cannot become {fate:?}");
        *before = fate;
    }

    pub(super) fn count(&self, fate: Fate) -> u64 {
        self.0.iter().filter(|other| **other == fate).count() as u64
    }
}
