//! One turn after the other: the hub and the model are told the same, and have to say the same.

use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Hub, Input, Output, ShardId, Turn, Wakeup, WakeupReason};
use pinch_proto::queue::Operation;
use pinch_proto::{Frame, Time};

use super::cast::Agent;
use super::prose::{self, Line, Names};
use super::run::{Person, Run, Station};

/// In so many turns a hub has done whatever is due, if it does not spin.
const MAX_TURNS: usize = 16;

/// A call of a hub.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Input(Input),
    Transmit { conn: ConnId, credit: usize },
    Timeout,
}

impl Call {
    /// Calls `hub`; what it transmits goes to `frames`.
    pub(super) fn make<'a>(self, hub: &'a mut Hub, now: Time, frames: &mut Vec<Frame>) -> Turn<'a> {
        match self {
            Self::Input(input) => hub.handle_input(input, now),
            Self::Transmit { conn, credit } => {
                hub.poll_transmit(conn, credit, now, |frame| frames.push(frame))
            }
            Self::Timeout => hub.handle_timeout(now),
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) frames: Vec<Frame>,
    pub(super) outputs: Vec<Output>,
}

/// A story that went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{log}\n{what}")]
pub struct Broken {
    log: String,
    what: String,
}

impl Run {
    pub(super) fn give(&mut self, input: &Input) -> Result<(), Box<Broken>> {
        self.turn(&Call::Input(input.clone())).map(drop)
    }

    /// The socket of `conn` takes `credit` bytes; returns what it gets.
    pub(super) fn transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
    ) -> Result<Vec<Frame>, Box<Broken>> {
        Ok(self.turn(&Call::Transmit { conn, credit })?.frames)
    }

    pub(super) fn timeout(&mut self) -> Result<(), Box<Broken>> {
        self.turn(&Call::Timeout)?;
        let spins = self
            .here
            .wakeup
            .is_some_and(|wakeup| wakeup.at <= self.here.latest);
        if spins {
            return Err(self.broken("a timeout has left something undone"));
        }
        Ok(())
    }

    /// One turn, and all that must be so after it.
    fn turn(&mut self, call: &Call) -> Result<Said, Box<Broken>> {
        let said = self.exchange(call)?;
        self.check()?;
        Ok(said)
    }

    /// One turn of the hub and of the model, which say the same. Nothing else is looked at.
    pub(super) fn exchange(&mut self, call: &Call) -> Result<Said, Box<Broken>> {
        self.here.latest = self.here.latest.max(self.now);
        self.ledger.before(call, &self.here.hub);
        let before = self.here.hub.stats();
        let forgets = core::mem::take(&mut self.forgets);
        let most = if forgets { 1 } else { usize::MAX };
        let mut said = self.ask_hub(call.clone(), self.now, most);
        let is_behind = forgets && self.has_more();
        // A turn does a bounded amount of work, and a driver comes back at once for the rest.
        let mut turns = if is_behind || matches!(call, Call::Timeout) {
            MAX_TURNS
        } else {
            0
        };
        while turns > 0 && self.has_more() {
            let rest = self.ask_hub(Call::Timeout, self.here.latest, usize::MAX);
            said.outputs.extend(rest.outputs);
            turns -= 1;
        }
        let mut expected = self.ask_model(call.clone(), &said)?;
        if is_behind {
            let rest = self.here.model.handle_timeout(self.here.latest);
            expected.outputs.extend(rest);
        }
        self.compare(&said, &expected)?;
        if let Call::Input(Input::Blocked { conn, .. }) = call {
            // A driver comes again when the socket moves.
            let mut people = self.here.people.iter_mut();
            let person = people.find(|person| person.conn == *conn);
            person.into_iter().for_each(|person| person.awake = true);
        }
        if let Call::Transmit { conn, credit } = call {
            self.transmitted(*conn, *credit, &said.frames)?;
        }
        for output in &said.outputs {
            self.observe(call, output)?;
        }
        self.ledger
            .after(&before, &self.here.hub.stats(), &self.shelf);
        Ok(said)
    }

    /// Whether the hub wants to be called again at once.
    fn has_more(&self) -> bool {
        let (at, reason) = (self.here.latest, WakeupReason::Backlog);
        self.here.wakeup == Some(Wakeup { at, reason })
    }

    /// Calls the hub, and takes so many of its outputs. What is left comes with its next turn.
    fn ask_hub(&mut self, call: Call, now: Time, most: usize) -> Said {
        let mut frames = vec![];
        let mut turn = call.clone().make(&mut self.here.hub, now, &mut frames);
        let outputs = outputs_of(&mut turn).take(most).collect();
        self.here.wakeup = turn.finish();
        let said = Said { frames, outputs };
        self.lines.push(Line::Turn(prose::Turn {
            shard: self.at,
            others: self.here.others,
            call,
            now,
            said: said.clone(),
        }));
        said
    }

    fn ask_model(&mut self, call: Call, said: &Said) -> Result<Said, Box<Broken>> {
        let mut frames = vec![];
        let outputs = match call {
            Call::Input(input) => {
                let name = said.outputs.iter().find_map(registered);
                let expected = self.here.model.handle(input, self.now, name);
                expected.map_err(|unnamed| self.broken(unnamed.to_string()))?
            }
            Call::Transmit { conn, credit } => {
                let (transmitted, outputs) = self.here.model.poll_transmit(conn, credit, self.now);
                frames = transmitted;
                outputs
            }
            Call::Timeout => self.here.model.handle_timeout(self.now),
        };
        Ok(Said { frames, outputs })
    }

    /// A connection gets frames. After fewer than it may take, it does nothing until the hub wakes it.
    fn transmitted(
        &mut self,
        conn: ConnId,
        credit: usize,
        frames: &[Frame],
    ) -> Result<(), Box<Broken>> {
        if let Some(person) = self
            .here
            .people
            .iter_mut()
            .find(|person| person.conn == conn)
        {
            let transmitted: usize = frames.iter().map(|frame| frame.len().max(1)).sum();
            if credit > 0 {
                person.awake = transmitted >= credit;
            }
            for frame in frames {
                if let Frame::Ping(payload) = frame {
                    let number = payload.as_ref().try_into().map(u64::from_be_bytes);
                    person.pings.extend(number);
                    person.open_pings.extend(number);
                }
            }
            if person.ended && !frames.is_empty() {
                return Err(self.broken(format!("{conn:?} has ended and gets frames")));
            }
        }
        for frame in frames {
            let observed = self.ledger.transmitted(conn, frame);
            observed.map_err(|what| self.broken(what))?;
        }
        Ok(())
    }

    fn observe(&mut self, call: &Call, output: &Output) -> Result<(), Box<Broken>> {
        match output {
            Output::Registered { conn, address } => {
                if self.here.people.iter().any(|person| person.conn == *conn) {
                    return Err(self.broken(format!("{conn:?} is given twice")));
                }
                let send_only = matches!(
                    call,
                    Call::Input(Input::Register { options, .. }) if options.send_only
                );
                self.here.people.push(Person {
                    conn: *conn,
                    agent: Agent::of(address.as_str()).expect("only agents join"),
                    awake: true,
                    ended: false,
                    send_only,
                    pings: vec![],
                    open_pings: VecDeque::new(),
                });
            }
            Output::Store(request) => self.shelf.asked.push_back((self.at, request.clone())),
            Output::Forward { shard, parcels } => {
                for parcel in parcels {
                    self.bus.push(self.at, *shard, parcel.clone());
                }
            }
            Output::Closed { conn, .. } | Output::Wake { conn } => {
                let known = self
                    .here
                    .people
                    .iter_mut()
                    .find(|person| person.conn == *conn);
                let Some(person) = known.filter(|person| !person.ended) else {
                    return Err(self.broken(format!("{conn:?} has ended and is mentioned again")));
                };
                person.ended = matches!(output, Output::Closed { .. });
                person.awake |= matches!(output, Output::Wake { .. });
            }
            Output::Refused { .. } | Output::ShutDown => {}
        }
        self.ledger
            .observe(output)
            .map_err(|what| self.broken(what))
    }

    pub(super) fn turns(&self) -> impl Iterator<Item = &prose::Turn> {
        self.lines.iter().filter_map(|line| match line {
            Line::Turn(turn) => Some(turn),
            Line::Step(_) | Line::Scene(_) => None,
        })
    }

    pub(super) fn names(&self) -> Names {
        let of_one = |(shard, station): (ShardId, &Station)| {
            let people = station.people.iter();
            let names = people.map(move |person| (shard, person.conn, person.agent));
            names.collect::<Names>()
        };
        self.stations().flat_map(of_one).collect()
    }

    pub(super) fn broken(&self, what: impl Into<String>) -> Box<Broken> {
        let log = prose::log(&self.lines, &self.names());
        let log = format!("{}{log}", self.before);
        let what = what.into();
        Box::new(Broken { log, what })
    }
}

fn registered(output: &Output) -> Option<ConnId> {
    match output {
        Output::Registered { conn, .. } => Some(*conn),
        Output::Refused { .. }
        | Output::Wake { .. }
        | Output::Closed { .. }
        | Output::Store(_)
        | Output::Forward { .. }
        | Output::ShutDown => None,
    }
}

fn outputs_of(turn: &mut Turn<'_>) -> impl Iterator<Item = Output> {
    core::iter::from_fn(|| turn.poll_output())
}

/// All outputs of a turn, and its wakeup.
pub(super) fn drain(mut turn: Turn<'_>) -> (Vec<Output>, Option<Wakeup>) {
    let outputs = outputs_of(&mut turn).collect();
    (outputs, turn.finish())
}

/// What an operation is about, if it is an envelope.
pub(super) fn appended(operation: &Operation) -> Option<&Bytes> {
    match operation {
        Operation::Append(append) => Some(&append.message),
        Operation::Read(_)
        | Operation::Remove { .. }
        | Operation::Expire { .. }
        | Operation::Block { .. }
        | Operation::Unblock { .. }
        | Operation::Seen { .. }
        | Operation::ForgetBlocks { .. } => None,
    }
}
