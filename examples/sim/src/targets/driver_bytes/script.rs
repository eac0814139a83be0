//! What befalls a relay whose sockets a story has in its hands.

use core::fmt;
use core::time::Duration;

use arbitrary::{Result, Unstructured};

use super::pieces::Piece;
use super::socket::Manners;
use crate::targets::damage::Damage;
use crate::targets::steps;

const MAX_STEPS: usize = 60;

#[derive(Debug)]
pub(super) struct Script {
    pub(super) settings: Settings,
    pub(super) steps: Vec<Step>,
    pub(super) finale: Finale,
}

/// Settings, among them such that limits are reached all the time.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Whoever says a name has it; else a key has to be proven.
    pub(super) is_open: bool,
    pub(super) has_store: bool,
    pub(super) max_pending: usize,
    pub(super) envelope_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) unconfirmed_bytes: usize,
    pub(super) refusal_bytes: usize,
}

/// Something that happens.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) action: Action,
    /// The relay gets to do something before the next step.
    pub(super) relay_runs: bool,
}

#[derive(Debug)]
pub(super) enum Action {
    /// A stranger comes, whose socket has room for so many bytes.
    Connect { entry: Entry, room: usize },
    /// A stranger writes.
    Write {
        stranger: u8,
        piece: Piece,
        damage: Vec<Damage>,
    },
    /// A stranger reads.
    Read { stranger: u8, bytes: usize },
    /// The socket of a stranger gives and takes differently.
    Behave { stranger: u8, manners: Manners },
    /// A stranger ends its stream.
    End { stranger: u8 },
    /// The connection of a stranger breaks.
    Reset { stranger: u8 },
    /// Alice writes to Bob.
    Greet { length: usize },
    /// Carol writes to a stranger.
    Flood {
        stranger: u8,
        length: usize,
        count: u8,
    },
    /// Time passes.
    Sleep(Duration),
}

/// How a stream comes to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// With HTTP.
    Fresh,
    /// Upgraded, by somebody who answers for the address.
    Vouched,
    /// Upgraded, and the key has to be proven.
    ToProve,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finale {
    /// No stranger says anything any more.
    Silence,
    /// The relay is shut down.
    ShutDown,
    /// The relay is dropped.
    Drop,
}

impl Script {
    pub(super) fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        let settings = Settings::read(&mut input).expect("a script without bytes has settings");
        let finales = [Finale::Silence, Finale::ShutDown, Finale::Drop];
        let finale = input.choose(&finales).copied().unwrap_or(Finale::Silence);
        let steps = steps(&mut input, MAX_STEPS, Step::read);
        Self {
            settings,
            steps,
            finale,
        }
    }
}

impl Settings {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let (envelope_bytes, message_bytes) =
            *input.choose(&[(400, 600), (6000, 9000), (600, 600)])?;
        Ok(Self {
            is_open: input.ratio(2, 3)?,
            has_store: input.ratio(1, 3)?,
            max_pending: *input.choose(&[4096, 4096, 1])?,
            envelope_bytes,
            message_bytes,
            // Enough for all that strangers can say to Bob.
            outbox_bytes: *input.choose(&[100_000, 1_000_000])?,
            unconfirmed_bytes: *input.choose(&[20_000, 500])?,
            refusal_bytes: *input.choose(&[10_000, 500])?,
        })
    }
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let action = Action::read(input)?;
        let relay_runs = input.ratio(3, 4)?;
        Ok(Self { action, relay_runs })
    }
}

impl Action {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let kind = input.int_in_range(0..=23)?;
        if kind <= 1 {
            return Ok(Self::Connect {
                entry: *input.choose(&[
                    Entry::Fresh,
                    Entry::Fresh,
                    Entry::Vouched,
                    Entry::ToProve,
                ])?,
                room: *input.choose(&[usize::MAX, 0, 200, 1000])?,
            });
        }
        let stranger = input.int_in_range(0..=3)?;
        Ok(match kind {
            2..=14 => Self::Write {
                stranger,
                piece: Piece::read(input)?,
                damage: Damage::several(input),
            },
            15 => Self::Read {
                stranger,
                bytes: usize::from(input.arbitrary::<u16>()?),
            },
            16 | 17 => Self::Behave {
                stranger,
                manners: Manners {
                    read: *input.choose(&[1, 2, 3, 7, 100, usize::MAX])?,
                    write: *input.choose(&[1, 3, 100, usize::MAX])?,
                    stutters: input.arbitrary()?,
                },
            },
            18 => Self::End { stranger },
            19 => Self::Reset { stranger },
            20 => Self::Greet {
                length: input.int_in_range(0..=300)?,
            },
            21 | 22 => Self::Flood {
                stranger,
                length: input.int_in_range(0..=5000)?,
                count: input.int_in_range(1..=20)?,
            },
            _ => Self::Sleep(Duration::from_millis(
                *input.choose(&[1, 1000, 7000, 10_000, 30_000])?,
            )),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(f)?;
        f.write_str(if self.relay_runs { "" } else { ", and at once" })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { entry, room } => {
                let entry = match entry {
                    Entry::Fresh => "by HTTP",
                    Entry::Vouched => "vouched for",
                    Entry::ToProve => "upgraded, to prove its key",
                };
                write!(f, "a stranger comes {entry}, with room for {room} bytes")
            }
            Self::Write {
                stranger,
                piece,
                damage,
            } => {
                write!(f, "{stranger}: writes {piece:?}")?;
                damage.iter().try_for_each(|damage| write!(f, ", {damage}"))
            }
            Self::Read { stranger, bytes } => write!(f, "{stranger}: reads {bytes} bytes"),
            Self::Behave { stranger, manners } => {
                let Manners {
                    read,
                    write,
                    stutters,
                } = manners;
                write!(
                    f,
                    "{stranger}: its socket gives {read} and takes {write} bytes at a time"
                )?;
                f.write_str(if *stutters { ", and stutters" } else { "" })
            }
            Self::End { stranger } => write!(f, "{stranger}: ends its stream"),
            Self::Reset { stranger } => write!(f, "{stranger}: its connection breaks"),
            Self::Greet { length } => write!(f, "Alice sends Bob {length} bytes"),
            Self::Flood {
                stranger,
                length,
                count,
            } => write!(f, "{stranger}: Carol sends it {count} × {length} bytes"),
            Self::Sleep(time) => write!(f, "{time:?} pass"),
        }
    }
}
