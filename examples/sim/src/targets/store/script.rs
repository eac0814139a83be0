//! What befalls a queue, step by step.

use core::fmt;

use arbitrary::{Result, Unstructured};
use pinch_proto::queue::{Append, Limits, Operation, Read, Seq, Usage};
use pinch_proto::{Address, UnixMillis};
use pinch_store_redb::simulation::Cause;

use crate::targets::steps;

/// redb takes its time to open and close a file.
const MAX_STEPS: usize = 16;
const MAX_OPERATIONS: usize = 6;

/// Some of which begin alike.
pub(super) const PARTIES: [&str; 4] = [
    "pinch:a@r",
    "pinch:b@r",
    "pinch:bob@r",
    "pinch:caroline@relay",
];

/// The life of a queue.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Step {
    /// A batch is executed; before that, the queue is opened if it is not.
    Batch(Vec<Operation>),
    /// The queue is closed.
    Close,
    /// The queue is closed, and an operator looks at it.
    Inspect,
    /// The process ends without notice, and what it wrote is there.
    Kill,
    /// The power fails.
    CutPower(Survives),
    /// The disk begins to fail.
    Fail(Trouble),
    /// It does no more.
    Repair,
}

/// What of that which was not flushed is on the disk when there is power again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survives {
    Nothing,
    Everything,
    /// Any part.
    Some {
        seed: u8,
    },
}

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// From so many operations on, nothing can be written any more.
    From(u64, Cause),
    /// So many operations later, one fails.
    Once(u64, Cause),
    /// The file can become longer by so many pages.
    Room(u64),
    /// Nothing can be read any more.
    Reads,
}

impl Script {
    pub(super) fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        let steps = steps(&mut input, MAX_STEPS, Step::read);
        Self { steps }
    }
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=15)? {
            0..=7 => {
                let count = input.int_in_range(0..=MAX_OPERATIONS)?;
                let batch = (0..count).map(|_| operation(input));
                Self::Batch(batch.collect::<Result<_>>()?)
            }
            8 => Self::Close,
            9 => Self::Inspect,
            10 => Self::Kill,
            11 | 12 => Self::CutPower(match input.arbitrary()? {
                0 => Survives::Nothing,
                1 => Survives::Everything,
                seed => Survives::Some { seed },
            }),
            13 | 14 => Self::Fail(Trouble::read(input)?),
            _ => Self::Repair,
        })
    }
}

impl Trouble {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let kind = input.int_in_range(0..=7)?;
        let operations = input.int_in_range(1..=40)?;
        let cause = *input.choose(&[Cause::Defect, Cause::Full, Cause::ReadOnly])?;
        Ok(match kind {
            0..=2 => Self::From(operations, cause),
            3..=5 => Self::Once(operations, cause),
            6 => Self::Room(operations - 1),
            _ => Self::Reads,
        })
    }
}

fn operation(input: &mut Unstructured<'_>) -> Result<Operation> {
    Ok(match input.int_in_range(0..=15)? {
        0..=6 => Operation::Append(append(input)?),
        7..=9 => Operation::Read(Read {
            recipient: party(input)?,
            after: input.ratio(1, 2)?.then(|| seq(input)).transpose()?,
            bytes: 64 * usize::from(input.arbitrary::<u8>()?),
            count: input.int_in_range(0..=5)?,
            now: time(input)?,
        }),
        10 | 11 => Operation::Remove {
            recipient: party(input)?,
            through: seq(input)?,
        },
        12 => Operation::Expire { now: time(input)? },
        13 | 14 => Operation::Block {
            blocker: party(input)?,
            blocked: party(input)?,
        },
        _ => Operation::Unblock {
            blocker: party(input)?,
            blocked: party(input)?,
        },
    })
}

fn append(input: &mut Unstructured<'_>) -> Result<Append> {
    let now = time(input)?;
    let lasts = input.int_in_range(-2..=40)?;
    let len = *input.choose(&[10, 100, 0, 1000, 3000, 5000, 20_000])?;
    let first = input.arbitrary::<u8>()?;
    // Bytes that are not the same on any two pages.
    let message =
        (0_usize..len).map(|at| first.wrapping_add(at.to_le_bytes()[0] ^ at.to_le_bytes()[1]));
    Ok(Append {
        recipient: party(input)?,
        sender: party(input)?,
        seq: seq(input)?,
        message: message.collect::<Vec<_>>().into(),
        now,
        expires_at: UnixMillis(now.0.saturating_add(lasts)),
        limits: input.ratio(1, 2)?.then(|| limits(input)).transpose()?,
        reserved: Usage {
            recipient_count: input.int_in_range(0..=2)?,
            sender_bytes: input.arbitrary::<u8>()?.into(),
            total_bytes: input.arbitrary::<u8>()?.into(),
        },
        reached: input.ratio(1, 4)?.then(|| seq(input)).transpose()?,
        discard: input.ratio(1, 8)?,
    })
}

fn limits(input: &mut Unstructured<'_>) -> Result<Limits> {
    let unit = *input.choose(&[10, 100, 1000])?;
    Ok(Limits {
        recipient_count: input.int_in_range(0..=6)?,
        sender_bytes: unit * u64::from(input.arbitrary::<u8>()?),
        total_bytes: unit * u64::from(input.arbitrary::<u8>()?),
    })
}

pub(super) fn address(party: &str) -> Address {
    Address::parse(party).expect("the parties are addresses")
}

fn party(input: &mut Unstructured<'_>) -> Result<Address> {
    Ok(address(input.choose(&PARTIES)?))
}

fn seq(input: &mut Unstructured<'_>) -> Result<Seq> {
    Ok(Seq(match input.int_in_range(0..=21)? {
        20 => u64::MAX - 1,
        21 => u64::MAX,
        small => small,
    }))
}

/// Now and then the clock is quite wrong.
fn time(input: &mut Unstructured<'_>) -> Result<UnixMillis> {
    Ok(UnixMillis(match input.int_in_range(0..=63)? {
        61 => i64::MIN,
        62 => -1,
        63 => i64::MAX,
        small => small,
    }))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(batch) => {
                let operations = batch
                    .iter()
                    .map(|operation| format!("\n  {}", Told(operation)));
                write!(f, "a batch is executed:{}", operations.collect::<String>())
            }
            Self::Close => f.write_str("the queue is closed"),
            Self::Inspect => f.write_str("the queue is closed, and an operator looks at it"),
            Self::Kill => f.write_str("the process is killed"),
            Self::CutPower(survives) => {
                write!(
                    f,
                    "the power fails; of what was not flushed survives: {survives:?}"
                )
            }
            Self::Fail(trouble) => write!(f, "{trouble}"),
            Self::Repair => f.write_str("the disk is repaired"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(at, cause) => {
                write!(
                    f,
                    "from its operation {at} on, the disk writes nothing any more: {cause:?}"
                )
            }
            Self::Once(at, cause) => write!(f, "operation {at} of the disk fails: {cause:?}"),
            Self::Room(pages) => write!(f, "the disk has room for {pages} more pages"),
            Self::Reads => f.write_str("the disk reads nothing any more"),
        }
    }
}

/// An operation, as a log has it.
pub(super) struct Told<'o>(pub(super) &'o Operation);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::Append(append) => {
                let Append {
                    recipient,
                    sender,
                    seq: Seq(seq),
                    now,
                    expires_at,
                    ..
                } = append;
                let (len, first) = (append.message.len(), append.message.first());
                write!(
                    f,
                    "at {}: append {seq} from {sender} to {recipient}, ",
                    now.0
                )?;
                write!(f, "{len} bytes")?;
                if let Some(first) = first {
                    write!(f, " from {first} on")?;
                }
                write!(f, ", expires at {}", expires_at.0)?;
                let (reserved, reached) = (append.reserved, append.reached);
                write!(f, ", {reserved:?}, reached {reached:?}")?;
                if append.discard {
                    write!(f, ", discarded")?;
                }
                match append.limits {
                    Some(limits) => write!(f, ", {limits:?}"),
                    None => Ok(()),
                }
            }
            Operation::Read(read) => {
                let Read {
                    recipient,
                    after,
                    bytes,
                    count,
                    now,
                } = read;
                let after = after.map_or_else(String::new, |Seq(seq)| format!(" behind {seq}"));
                write!(
                    f,
                    "at {}: read {count} for {recipient}{after}, {bytes} bytes",
                    now.0
                )
            }
            Operation::Remove {
                recipient,
                through: Seq(through),
            } => {
                write!(f, "remove what is for {recipient} through {through}")
            }
            Operation::Expire { now } => write!(f, "at {}: expire", now.0),
            Operation::Block { blocker, blocked } => write!(f, "{blocker} blocks {blocked}"),
            Operation::Seen { blocker, at } => write!(f, "{blocker} is seen at {}", at.0),
            Operation::ForgetBlocks { blocker } => write!(f, "forget the blocks of {blocker}"),
            Operation::Unblock { blocker, blocked } => write!(f, "{blocker} unblocks {blocked}"),
        }
    }
}
