//! How steps come from bytes: one byte for each choice, so that whoever changes a byte changes one
//! thing. What leads further is chosen more often.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::cast::{Agent, To, Who};
use super::step::{Carry, Clock, Credit, Manner, Pong, Session, Size, Socket, Step, Store, What};

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? {
            0..=23 => Self::Join(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
            24..=63 => Self::Send {
                from: bytes.arbitrary()?,
                to: To::Agent(bytes.arbitrary()?),
                what: What::Message,
                size: Size::Small(bytes.arbitrary()?),
            },
            64..=87 => Self::Send {
                from: bytes.arbitrary()?,
                to: bytes.arbitrary()?,
                what: bytes.arbitrary()?,
                size: bytes.arbitrary()?,
            },
            88..=119 => Self::Writable(bytes.arbitrary()?, bytes.arbitrary()?),
            120..=139 => Self::Pong(bytes.arbitrary()?, bytes.arbitrary()?),
            140..=155 => Self::Catch(bytes.arbitrary()?),
            156..=175 => Self::Socket(bytes.arbitrary()?, bytes.arbitrary()?),
            176..=215 => Self::Store(bytes.arbitrary()?),
            216..=246 => Self::Clock(bytes.arbitrary()?),
            247..=250 => Self::Forget,
            251 => Self::Flood(bytes.arbitrary()?, bytes.arbitrary()?),
            252..=253 => Self::Shutdown,
            254..=255 => Self::Restart(bytes.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Agent {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        bytes.choose(&Self::ALL).copied()
    }
}

impl<'a> Arbitrary<'a> for Session {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 16 {
            0..=9 => Self::Plain,
            10..=13 => Self::SendOnly,
            14 => Self::Deduplicates,
            _ => Self::Browser,
        })
    }
}

impl<'a> Arbitrary<'a> for Who {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let chosen: u8 = bytes.arbitrary()?;
        Ok(Self {
            agent: Agent::ALL[usize::from(chosen % 4)],
            earlier: chosen / 4 % 12 == 11,
        })
    }
}

impl<'a> Arbitrary<'a> for To {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 12 {
            0..=5 => Self::Agent(bytes.arbitrary()?),
            6 => Self::Themselves,
            7 => Self::Stranger,
            8 => Self::Named,
            9 => Self::OtherHost(bytes.arbitrary()?),
            10 => Self::Malformed,
            _ => Self::Nobody,
        })
    }
}

impl<'a> Arbitrary<'a> for What {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 24 {
            0..=5 => Self::Message,
            6 => Self::Confirm,
            7..=9 => Self::OfType(bytes.int_in_range(0..=Self::MAX_TYPE)?),
            10 => Self::LongId,
            11 => Self::Heartbeat,
            12 => Self::Foreign(bytes.arbitrary()?),
            13 => Self::Garbage,
            14 => Self::Empty,
            15..=17 => Self::Block(bytes.arbitrary()?),
            18..=20 => Self::Unblock(bytes.arbitrary()?),
            21 => Self::BlockNobody,
            22 => Self::UnblockNobody,
            _ => Self::Mislabelled(bytes.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Size {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 12 {
            0..=3 => Self::Small(bytes.arbitrary()?),
            4..=5 => Self::Limit,
            6 => Self::OverLimit,
            7 => Self::TooBig,
            _ => Self::Large,
        })
    }
}

impl<'a> Arbitrary<'a> for Credit {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? {
            few @ 0..128 => Self::Bytes(2 * few),
            128..=255 => Self::Plenty,
        })
    }
}

impl<'a> Arbitrary<'a> for Pong {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 16 {
            0..=6 => Self::Last,
            7..=11 => Self::First,
            12 => Self::Again,
            13 => Self::Number(bytes.arbitrary()?),
            14 => Self::Unasked,
            _ => Self::Garbled,
        })
    }
}

impl<'a> Arbitrary<'a> for Socket {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 16 {
            0..=3 => Self::Blocked(bytes.arbitrary()?),
            4..=6 => Self::Ping(bytes.arbitrary()?),
            7 => Self::Partial(bytes.arbitrary()?, bytes.int_in_range(0..=3)?),
            8..=9 => Self::Faulty(bytes.choose(&Self::FAULTS).copied()?),
            10..=12 => Self::PeerClosed(bytes.arbitrary()?),
            _ => Self::Closed(bytes.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Store {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 28 {
            0..=9 => Self::Serve(bytes.int_in_range(1..=5)?),
            10..=17 => Self::Do(bytes.arbitrary()?),
            18..=25 => Self::Answer(bytes.arbitrary()?),
            26 => Self::Lose(bytes.arbitrary()?),
            _ => Self::Unknown(bytes.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Manner {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 16 {
            0..=7 => Self::Asked,
            8..=9 => Self::Fails(bytes.choose(&Self::FAILURES).copied()?),
            10..=11 => Self::Refuses(bytes.choose(&Self::REFUSALS).copied()?),
            12..=13 => Self::Sparing,
            14 => Self::Nonsense,
            _ => Self::MakesUp,
        })
    }
}

impl<'a> Arbitrary<'a> for Carry {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let pair = bytes.arbitrary()?;
        Ok(match bytes.arbitrary::<u8>()? % 20 {
            few @ 0..=4 => Self::Deliver(pair, few + 1),
            5..=13 => Self::Deliver(pair, 1),
            14..=15 => Self::Lose(pair),
            16..=17 => Self::Repeat(pair),
            _ => Self::Delay(pair),
        })
    }
}

impl<'a> Arbitrary<'a> for Clock {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.arbitrary::<u8>()? % 24 {
            0..=6 => Self::Pass(bytes.arbitrary()?),
            7..=9 => Self::Skip(bytes.arbitrary()?),
            10..=15 => Self::Due,
            16..=18 => Self::AlmostDue,
            19 => Self::Long,
            20 => Self::Back(bytes.arbitrary()?),
            _ => Self::Timeout,
        })
    }
}
