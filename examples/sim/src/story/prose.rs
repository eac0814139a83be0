//! A run, written so that a person can follow it.

use core::fmt::Write as _;
use core::time::Duration;

use pinch_proto::hub::{ConnId, Input, Item, Output, Parcel, ShardId, Verdict};
use pinch_proto::queue::{Operation, Request};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{EnvelopeView, Frame, Time};
use prost::Message as _;

use super::cast::Agent;
use super::message::number_of;
use super::step::Step;
use super::turn::{Call, Said};

/// One line of a log.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// What the story says.
    Step(Step),
    /// What the run does by itself.
    Scene(&'static str),
    /// How the hub was called, and what came of it.
    Turn(Turn),
}

#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) shard: ShardId,
    pub(super) others: usize,
    pub(super) call: Call,
    pub(super) now: Time,
    pub(super) said: Said,
}

/// Whose each connection is, by its shard and its name.
pub(super) type Names = Vec<(ShardId, ConnId, Agent)>;

pub(super) fn log(lines: &[Line], names: &Names) -> String {
    let mut log = String::new();
    for line in lines {
        // Writing to a string does not fail.
        let _ = match line {
            Line::Step(step) => writeln!(log, "- {step}"),
            Line::Scene(scene) => writeln!(log, "- ({scene})"),
            Line::Turn(turn) => {
                let at = Duration::from_nanos(turn.now.as_nanos());
                let shard = turn.shard.index();
                let mut names = names.clone();
                names.retain(|(shard, ..)| *shard == turn.shard);
                let call = self::call(&turn.call, &names);
                let said = said(&turn.said, &names);
                writeln!(log, "    {at:?} shard {shard}: {call} → {said}")
            }
        };
    }
    log
}

pub(super) fn said(said: &Said, names: &Names) -> String {
    if *said == Said::default() {
        return "nothing".into();
    }
    let frames = said.frames.iter().map(frame);
    let outputs = said
        .outputs
        .iter()
        .map(|output| self::output(output, names));
    frames.chain(outputs).collect::<Vec<_>>().join("; ")
}

fn call(call: &Call, names: &Names) -> String {
    match call {
        Call::Input(input) => self::input(input, names),
        Call::Transmit { conn, credit } => format!("to {}: {credit} bytes", name(*conn, names)),
        Call::Timeout => "timeout".into(),
    }
}

fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Message(message) => envelope(message),
        Frame::Ping(payload) => format!("ping {}", ping(payload)),
        Frame::Pong(payload) => format!("pong {payload:?}"),
        Frame::Close(close) => format!("close {close}"),
    }
}

/// `bob`, or `bob'` for his second connection.
fn name(conn: ConnId, names: &Names) -> String {
    let Some((_, _, agent)) = names.iter().find(|(_, known, _)| *known == conn) else {
        return format!("{conn:?}");
    };
    let before = names.iter().take_while(|(_, known, _)| *known != conn);
    let before = before.filter(|(_, _, other)| other == agent).count();
    format!("{agent}{}", "'".repeat(before))
}

fn who(address: &str) -> String {
    Agent::of(address).map_or_else(|| format!("“{address}”"), |agent| agent.to_string())
}

fn input(input: &Input, names: &Names) -> String {
    match input {
        Input::Register {
            address,
            admission,
            options,
        } => {
            format!(
                "{} joins, {admission:?}, {options:?}",
                who(address.as_str())
            )
        }
        Input::Received { conn, message } => {
            format!("from {}: {}", name(*conn, names), envelope(message.bytes()))
        }
        Input::Pong { conn, payload } => {
            format!("from {}: pong {}", name(*conn, names), ping(payload))
        }
        Input::Blocked {
            conn,
            progressed: true,
        } => format!("{}: blocked, moves", name(*conn, names)),
        Input::Blocked {
            conn,
            progressed: false,
        } => format!("{}: blocked", name(*conn, names)),
        Input::Ping { conn, payload } => {
            format!("from {}: ping {payload:?}", name(*conn, names))
        }
        Input::Partial {
            conn,
            bytes,
            short_fragments,
        } => format!(
            "from {}: a part, {bytes} bytes held, {short_fragments} short",
            name(*conn, names)
        ),
        Input::Faulty { conn, fault } => format!("{}: faulty, {fault:?}", name(*conn, names)),
        Input::PeerClosed { conn, .. } => format!("from {}: close", name(*conn, names)),
        Input::Closed { conn, clean } => {
            let how = if *clean { "ended in order" } else { "gone" };
            format!("{}: {how}", name(*conn, names))
        }
        Input::Stored { ticket, outcome } => format!("store, ticket {}: {outcome:?}", ticket.0),
        Input::Forwarded { shard, parcels } => {
            format!("from shard {}: {}", shard.index(), self::parcels(parcels))
        }
        Input::Shutdown => "shutdown".into(),
    }
}

fn output(output: &Output, names: &Names) -> String {
    match output {
        Output::Registered { conn, address } => {
            format!("{} is registered as {conn:?}", who(address.as_str()))
        }
        Output::Refused { address, refusal } => {
            format!("{} is refused: {refusal}", who(address.as_str()))
        }
        Output::Wake { conn } => format!("wake {}", name(*conn, names)),
        Output::Closed { conn, cause, .. } => format!("{} has ended: {cause}", name(*conn, names)),
        Output::Store(Request { ticket, operation }) => {
            format!("ticket {}: {}", ticket.0, self::operation(operation))
        }
        Output::Forward { shard, parcels } => {
            format!("to shard {}: {}", shard.index(), self::parcels(parcels))
        }
        Output::ShutDown => "the relay is down".into(),
    }
}

fn parcels(parcels: &[Parcel]) -> String {
    parcels.iter().map(parcel).collect::<Vec<_>>().join(", ")
}

fn parcel(parcel: &Parcel) -> String {
    match parcel {
        Parcel::Item { number, item, .. } => match item {
            Item::Envelope { message, .. } => {
                format!("item {number}, {}", envelope(message.bytes()))
            }
            Item::Rejection { message, .. } => format!("item {number}, {}", envelope(message)),
        },
        Parcel::Verdict {
            first,
            last,
            verdict,
            ..
        } => {
            let verdict = match verdict {
                Verdict::Accepted => "accepted".into(),
                Verdict::Taken => "taken".into(),
                Verdict::Rejected(rejection) => envelope(rejection),
            };
            format!("{first} to {last}: {verdict}")
        }
    }
}

fn ping(payload: &[u8]) -> String {
    payload
        .try_into()
        .map(u64::from_be_bytes)
        .map_or_else(|_| format!("{payload:?}"), |number| number.to_string())
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Append(append) => format!(
            "{} for {} as {} {}, limits {:?}, reserved {}, reached {:?}",
            if append.discard { "discard" } else { "append" },
            who(append.recipient.as_str()),
            append.seq.0,
            envelope(&append.message),
            append.limits.map(|limits| limits.recipient_count),
            append.reserved.recipient_count,
            append.reached.map(|seq| seq.0),
        ),
        Operation::Read(read) => format!(
            "read for {} after {:?}, {} bytes, {} envelopes",
            who(read.recipient.as_str()),
            read.after.map(|seq| seq.0),
            read.bytes,
            read.count,
        ),
        Operation::Remove { recipient, through } => {
            format!(
                "remove for {} through {}",
                who(recipient.as_str()),
                through.0
            )
        }
        Operation::Expire { .. } => "expire".into(),
        Operation::Block { blocker, blocked } => {
            format!("{} blocks {}", who(blocker.as_str()), who(blocked.as_str()))
        }
        Operation::Seen { blocker, .. } => format!("{} is seen", who(blocker.as_str())),
        Operation::ForgetBlocks { blocker } => {
            format!("the blocks of {} are forgotten", who(blocker.as_str()))
        }
        Operation::Unblock { blocker, blocked } => {
            format!(
                "{} unblocks {}",
                who(blocker.as_str()),
                who(blocked.as_str())
            )
        }
    }
}

/// `#3 of alice for bob (140 bytes)`, or what the relay says about it.
fn envelope(message: &[u8]) -> String {
    let bytes = message.len();
    let (Ok(view), Ok(envelope)) = (EnvelopeView::parse(message), Envelope::decode(message)) else {
        return format!("{bytes} bytes that are no envelope");
    };
    let number = number_of(&view).map_or_else(String::new, |number| format!("#{number}"));
    if let Some(Payload::QueueFull(full)) = &envelope.payload {
        return format!("QUEUE_FULL {number} {}", full.reason);
    }
    if let Some(Payload::RateLimited(limited)) = &envelope.payload {
        return format!("RATE_LIMITED {number} {} ms", limited.retry_after_ms);
    }
    if let Some(Payload::QueueStatus(status)) = &envelope.payload {
        return format!("QUEUE_STATUS {}", status.pending_count);
    }
    if let Some(Payload::AuthResult(_)) = &envelope.payload {
        return "AUTH_RESULT".into();
    }
    let (from, to) = (who(view.from_address()), who(view.to_address()));
    let kind = view.message_type();
    format!("{number} of {from} for {to} ({kind:?}, {bytes} bytes)")
}
