//! What befalls a client: who it is, how it is set, and what happens, step by step.

use core::fmt;
use core::time::Duration;

use arbitrary::{Result, Unstructured};
use pinch_proto::client::{Config, Duplicates};

use crate::targets::steps;

const MAX_STEPS: usize = 150;

/// The life of a client.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) settings: Settings,
    pub(super) steps: Vec<Step>,
    pub(super) finale: Finale,
}

/// Settings, among them such that limits are reached all the time.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Whether it joins by a key; else by a name.
    pub(super) has_key: bool,
    pub(super) seed: u8,
    pub(super) dial_timeout: Duration,
    pub(super) join_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    pub(super) pong_timeout: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) backoff_base: Duration,
    pub(super) backoff_cap: Duration,
    pub(super) max_tries: Option<u32>,
    pub(super) stable_after: Duration,
    pub(super) rejoin_when_replaced: bool,
    pub(super) envelope_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) outbox_count: usize,
    pub(super) remembered: Option<u32>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The user submits an envelope.
    Submit(Draft),
    /// The user wants to leave.
    Close,
    /// The dial succeeds.
    Connect,
    /// The dial fails, or the link breaks.
    Cut,
    /// The relay answers the upgrade with this status, and with `Retry-After` in seconds.
    Reject {
        status: u16,
        retry_after: Option<u64>,
    },
    /// The socket has taken everything, and has room for so many bytes.
    Write(usize),
    /// So many frames reach the relay.
    ReachRelay(usize),
    /// So many frames reach the client.
    ReachClient(usize),
    /// The relay sends something.
    Say(Says),
    /// A pong that answers nothing, or an old ping.
    StrayPong(StrayPong),
    /// An input about a link that there is not.
    Stray(u8),
    /// The dial succeeds, and an honest relay lets the client join.
    Join,
    /// All frames get where they shall go, and their answers, too.
    Exchange,
    /// Time passes, and the client is called whenever it wants to be.
    Sleep(Duration),
    /// Time passes, and the client hears of it with the next step.
    Jump(Duration),
    /// The clock is set back.
    SetBack(Duration),
    /// The client is called although nothing is due.
    Spurious,
}

/// An envelope that a user submits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draft {
    /// With an id of so many bytes.
    Good(u8),
    Stranger,
    NoEnvelope,
    RelayOnly,
    TooLarge,
}

/// What a relay says.
#[derive(Clone, Debug)]
pub(super) enum Says {
    Challenge(ChallengeKind),
    Welcome(WelcomeKind),
    Refused(&'static str),
    Envelope {
        from: &'static str,
        id: u8,
        time: i64,
        is_refusal: bool,
    },
    NoEnvelope,
    Close {
        code: u16,
        reason: &'static str,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ChallengeKind {
    Good,
    OfOtherHost,
    ShortNonce,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WelcomeKind {
    /// The host is spelled as the client does.
    Good,
    Respelled,
    OfOtherAgent,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StrayPong {
    Empty,
    Other(u8),
    /// The ping so far back, unless it is on its way.
    Old(usize),
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finale {
    /// The user leaves, and nobody helps.
    Leave,
    /// The link is new and good, and all is delivered before the user leaves.
    Recover,
    /// Nobody says anything any more.
    Silence,
}

impl Script {
    pub(super) fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        let settings = Settings::read(&mut input).expect("a script without bytes has settings");
        let finales = [Finale::Leave, Finale::Recover, Finale::Silence];
        let finale = input.choose(&finales).copied().unwrap_or(Finale::Leave);
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
        let mut secs = |choices: &[u64]| -> Result<Duration> {
            Ok(Duration::from_secs(*input.choose(choices)?))
        };
        let dial_timeout = secs(&[10, 1])?;
        let join_timeout = secs(&[10, 1])?;
        let heartbeat_interval = secs(&[25, 1, 300])?;
        let pong_timeout = secs(&[7, 1, 60])?;
        let stall_timeout = secs(&[30, 2])?;
        let close_timeout = secs(&[5, 1, 60])?;
        let stable_after = secs(&[30, 0, 3])?;
        let (base, cap) = *input.choose(&[(500, 30_000), (1, 1), (1000, 3000)])?;
        let envelope_bytes = 200;
        Ok(Self {
            has_key: input.ratio(1, 3)?,
            seed: input.arbitrary()?,
            dial_timeout,
            join_timeout,
            heartbeat_interval,
            pong_timeout,
            stall_timeout,
            close_timeout,
            backoff_base: Duration::from_millis(base),
            backoff_cap: Duration::from_millis(cap),
            max_tries: *input.choose(&[Some(20), None, Some(1), Some(3)])?,
            stable_after,
            rejoin_when_replaced: input.arbitrary()?,
            envelope_bytes,
            outbox_bytes: *input.choose(&[2000, envelope_bytes, 450])?,
            outbox_count: *input.choose(&[8, 1, 3])?,
            remembered: *input.choose(&[Some(3), Some(1), None, Some(1000)])?,
        })
    }

    /// Of the time between two calls of a client, at most this counts for its timeouts: a quarter
    /// of the shortest.
    pub(super) fn step(&self) -> Duration {
        let timeouts = [
            self.dial_timeout,
            self.join_timeout,
            self.pong_timeout,
            self.stall_timeout,
            self.close_timeout,
        ];
        let shortest = timeouts.into_iter().min().expect("there are some");
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }

    pub(super) fn config(&self) -> Config {
        let duplicates = match self.remembered {
            Some(remembered) => Duplicates::Drop { remembered },
            None => Duplicates::Deliver,
        };
        Config::new()
            .dial_timeout(self.dial_timeout)
            .join_timeout(self.join_timeout)
            .heartbeat_interval(self.heartbeat_interval)
            .pong_timeout(self.pong_timeout)
            .stall_timeout(self.stall_timeout)
            .close_timeout(self.close_timeout)
            .backoff(self.backoff_base, self.backoff_cap)
            .max_tries(self.max_tries)
            .stable_after(self.stable_after)
            .rejoin_when_replaced(self.rejoin_when_replaced)
            .envelope_bytes(self.envelope_bytes)
            .outbox_bytes(self.outbox_bytes)
            .outbox_count(self.outbox_count)
            .duplicates(duplicates)
            .build()
            .expect("these settings fit each other")
    }
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=24)? {
            0..=3 => Self::Submit(Draft::read(input)?),
            4 => Self::Close,
            5 => Self::Connect,
            6 => Self::Cut,
            7..=9 => Self::Write(input.arbitrary::<u8>()?.into()),
            10 => Self::ReachRelay(input.int_in_range(1..=4)?),
            11 => Self::ReachClient(input.int_in_range(1..=4)?),
            12..=14 => Self::Say(Says::read(input)?),
            15 => Self::StrayPong(match input.int_in_range(0..=2)? {
                0 => StrayPong::Empty,
                1 => StrayPong::Other(input.arbitrary()?),
                _ => StrayPong::Old(input.int_in_range(1..=3)?),
            }),
            16 => Self::Stray(input.int_in_range(0..=5)?),
            17 | 18 => Self::Join,
            19 => Self::Exchange,
            20 => Self::Sleep(duration(input)?),
            21 => Self::Jump(duration(input)?),
            22 => Self::SetBack(duration(input)?),
            23 => Self::Spurious,
            _ => Self::Reject {
                status: *input.choose(&[404, 503, 403, 429, 301, 302, 200, 500, 426])?,
                retry_after: *input.choose(&[None, Some(0), Some(120), Some(u64::MAX)])?,
            },
        })
    }
}

impl Draft {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=8)? {
            0 => Self::Stranger,
            1 => Self::NoEnvelope,
            2 => Self::RelayOnly,
            3 => Self::TooLarge,
            _ => Self::Good(input.int_in_range(0..=120)?),
        })
    }
}

impl Says {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=9)? {
            0 => Self::Challenge(*input.choose(&[
                ChallengeKind::Good,
                ChallengeKind::OfOtherHost,
                ChallengeKind::ShortNonce,
            ])?),
            1 => Self::Welcome(*input.choose(&[
                WelcomeKind::Good,
                WelcomeKind::Respelled,
                WelcomeKind::OfOtherAgent,
            ])?),
            2 => Self::Refused(input.choose(&[
                "authentication failed",
                "key not registered",
                "address already connected",
            ])?),
            3 => Self::NoEnvelope,
            4 => {
                let closes = [
                    (1000, ""),
                    (1001, "going away"),
                    (1003, ""),
                    (1007, "malformed envelope"),
                    (1008, "heartbeat timeout"),
                    (1008, "from_address is not yours"),
                    (1008, "key not registered"),
                    (1009, ""),
                    (1013, "relay is full"),
                    (4001, "replaced by a new connection"),
                ];
                let &(code, reason) = input.choose(&closes)?;
                Self::Close { code, reason }
            }
            _ => Self::Envelope {
                from: input.choose(&["pinch:bob@r", "pinch:bob@r", "pinch:eve@r", ""])?,
                id: input.int_in_range(0..=3)?,
                time: input.int_in_range(0..=1)?,
                is_refusal: input.ratio(1, 8)?,
            },
        })
    }

    /// The close codes after which coming back would be of no use, or do harm.
    pub(super) fn is_final(code: u16, reason: &str) -> bool {
        matches!(
            (code, reason),
            (1003 | 1007 | 1009 | 4001, _)
                | (1008, "from_address is not yours" | "key not registered")
        )
    }
}

fn duration(input: &mut Unstructured<'_>) -> Result<Duration> {
    let unit = *input.choose(&[1, 100, 1000])?;
    Ok(Duration::from_millis(
        unit * u64::from(input.arbitrary::<u8>()?),
    ))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(draft) => write!(f, "the user submits an envelope: {draft:?}"),
            Self::Close => f.write_str("the user wants to leave"),
            Self::Connect => f.write_str("the dial succeeds, if there is one"),
            Self::Cut => f.write_str("the dial fails, or the link breaks"),
            Self::Reject {
                status,
                retry_after,
            } => write!(
                f,
                "the upgrade is rejected: {status}, Retry-After {retry_after:?}"
            ),
            Self::Write(bytes) => write!(f, "the socket has room for {bytes} bytes"),
            Self::ReachRelay(count) => write!(f, "{count} frames reach the relay"),
            Self::ReachClient(count) => write!(f, "{count} frames reach the client"),
            Self::Say(says) => write!(f, "the relay sends {says:?}"),
            Self::StrayPong(pong) => write!(f, "a pong comes that answers nothing: {pong:?}"),
            Self::Stray(number) => write!(f, "input {number} comes although there is no link"),
            Self::Join => f.write_str("the dial succeeds, and the relay lets the client join"),
            Self::Exchange => f.write_str("all frames get where they shall go"),
            Self::Sleep(time) => write!(f, "{time:?} pass"),
            Self::Jump(time) => write!(f, "{time:?} pass without notice"),
            Self::SetBack(time) => write!(f, "the clock is set back by {time:?}"),
            Self::Spurious => f.write_str("the client is called although nothing is due"),
        }
    }
}
