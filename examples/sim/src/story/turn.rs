//! One turn after the other: the hub and the model are told the same, and have to say the same.

use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Input, Output, Turn, Wakeup, WakeupReason};
use pinch_proto::queue::Operation;
use pinch_proto::{Frame, Time};

use super::cast::Agent;
use super::prose::{self, Line, Names};
use super::run::{Person, Run};

/// In so many turns a hub has done whatever is due, if it does not spin.
const MAX_TURNS: usize = 16;

/// A story that went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{log}\n{what}")]
pub struct Broken {
    log: String,
    what: String,
}

impl Run {
    pub(super) fn give(&mut self, input: &Input) -> Result<(), Box<Broken>> {
        self.turn(Some(input)).map(drop)
    }

    pub(super) fn timeout(&mut self) -> Result<(), Box<Broken>> {
        self.turn(None)?;
        let spins = self.wakeup.is_some_and(|wakeup| wakeup.at <= self.latest);
        if spins {
            return Err(self.broken("a timeout has left something undone"));
        }
        Ok(())
    }

    /// One turn, and all that must be so after it. Without an input, it is for what is due.
    pub(super) fn turn(&mut self, input: Option<&Input>) -> Result<Vec<Output>, Box<Broken>> {
        let outputs = self.exchange(input)?;
        self.check()?;
        Ok(outputs)
    }

    /// One turn of the hub and of the model, which say the same. Nothing else is looked at.
    pub(super) fn exchange(&mut self, input: Option<&Input>) -> Result<Vec<Output>, Box<Broken>> {
        self.latest = self.latest.max(self.now);
        self.ledger.before(input, &self.hub);
        let before = self.hub.stats();
        let forgets = core::mem::take(&mut self.forgets);
        let mut outputs = self.ask_hub(
            input.cloned(),
            self.now,
            if forgets { 1 } else { usize::MAX },
        );
        let is_behind = forgets && self.has_more();
        // A turn does a bounded amount of work, and a driver comes back at once for the rest.
        let mut turns = if is_behind || input.is_none() {
            MAX_TURNS
        } else {
            0
        };
        while turns > 0 && self.has_more() {
            outputs.extend(self.ask_hub(None, self.latest, usize::MAX));
            turns -= 1;
        }
        let mut expected = self.ask_model(input.cloned(), &outputs)?;
        if is_behind {
            expected.extend(self.model.handle_timeout(self.latest));
        }
        self.compare_outputs(&outputs, &expected)?;
        if let Some(Input::Writable { conn, bytes: 1.. }) = input {
            self.falls_asleep(*conn, &outputs);
        }
        for output in &outputs {
            self.observe(input, output)?;
        }
        self.ledger.after(&before, &self.hub.stats(), &self.shelf);
        Ok(outputs)
    }

    /// Whether the hub wants to be called again at once.
    fn has_more(&self) -> bool {
        let (at, reason) = (self.latest, WakeupReason::Backlog);
        self.wakeup == Some(Wakeup { at, reason })
    }

    /// Tells the hub, and takes so many of its outputs. What is left comes with its next turn.
    fn ask_hub(&mut self, input: Option<Input>, now: Time, most: usize) -> Vec<Output> {
        let mut turn = match input.clone() {
            Some(input) => self.hub.handle_input(input, now),
            None => self.hub.handle_timeout(now),
        };
        let outputs: Vec<_> = outputs_of(&mut turn).take(most).collect();
        self.wakeup = turn.finish();
        self.lines.push(Line::Turn(prose::Turn {
            input,
            now,
            outputs: outputs.clone(),
        }));
        outputs
    }

    fn ask_model(
        &mut self,
        input: Option<Input>,
        outputs: &[Output],
    ) -> Result<Vec<Output>, Box<Broken>> {
        let Some(input) = input else {
            return Ok(self.model.handle_timeout(self.now));
        };
        let name = outputs.iter().find_map(registered);
        let expected = self.model.handle(input, self.now, name);
        expected.map_err(|unnamed| self.broken(unnamed.to_string()))
    }

    /// Who was given nothing says nothing more until the hub wakes it.
    fn falls_asleep(&mut self, conn: ConnId, outputs: &[Output]) {
        let is_frame = |output: &Output| matches!(output, Output::Transmit { .. });
        if let Some(person) = self.people.iter_mut().find(|person| person.conn == conn) {
            person.awake = outputs.iter().any(is_frame);
        }
    }

    fn observe(&mut self, input: Option<&Input>, output: &Output) -> Result<(), Box<Broken>> {
        match output {
            Output::Registered { conn, address } => {
                if self.people.iter().any(|person| person.conn == *conn) {
                    return Err(self.broken(format!("{conn:?} is given twice")));
                }
                let send_only =
                    matches!(input, Some(Input::Register { options, .. }) if options.send_only);
                self.people.push(Person {
                    conn: *conn,
                    agent: Agent::of(address.as_str()).expect("only agents join"),
                    awake: true,
                    ended: false,
                    send_only,
                    pings: vec![],
                    open_pings: VecDeque::new(),
                });
            }
            Output::Store(request) => self.shelf.asked.push_back(request.clone()),
            Output::Closed { conn, .. } | Output::Wake { conn } | Output::Transmit { conn, .. } => {
                let known = self.people.iter_mut().find(|person| person.conn == *conn);
                let Some(person) = known.filter(|person| !person.ended) else {
                    return Err(self.broken(format!("{conn:?} has ended and is mentioned again")));
                };
                person.ended = matches!(output, Output::Closed { .. });
                person.awake |= matches!(output, Output::Wake { .. });
                if let Output::Transmit {
                    frame: Frame::Ping(payload),
                    ..
                } = output
                {
                    let number = payload.as_ref().try_into().map(u64::from_be_bytes);
                    person.pings.extend(number);
                    person.open_pings.extend(number);
                }
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
        self.people
            .iter()
            .map(|person| (person.conn, person.agent))
            .collect()
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
        | Output::Transmit { .. }
        | Output::Closed { .. }
        | Output::Store(_)
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
