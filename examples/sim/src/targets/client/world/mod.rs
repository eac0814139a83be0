//! Everything around a client: a user, a driver that keeps its word, a link that may break at any
//! moment, and a relay that says what it wants but answers pings honestly.

mod end;
mod link;
mod user;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::client::{Client, Identity, Input, Output, Turn, Wakeup};
use pinch_proto::{Address, Close, Frame, Time, UnixMillis};

use super::model::{Model, Phase, Want};
use super::relay::{self, Letter};
use super::script::{Settings, Step};
use crate::targets::parties;

/// Bytes that are no envelope.
pub(super) const NO_ENVELOPE: &[u8] = &[0xff];

const START: Time = Time::from_nanos(1_000_000_000);
const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);
/// The relay that a client with a key wants to join.
pub(super) const HOST: &str = parties::HOSTS[0];

/// What a client without a key calls itself.
const NAME: &str = "pinch:alice@r";

/// What is on its way to the client.
enum ToClient {
    Letter(Letter),
    Pong(Bytes),
    Close(Close),
}

/// What was done to the client, so that it can be done again.
enum Act {
    Input(Input),
    Timeout,
    Submit(Bytes),
}

/// A client, and everything around it.
pub(super) struct World {
    settings: Settings,
    client: Client,
    pub(super) model: Model,
    now: Time,
    wakeup: Option<Wakeup>,
    to_relay: VecDeque<Frame>,
    to_client: VecDeque<ToClient>,
    /// How many of the accepted envelopes the relay has, and the next one on this link.
    arrived: usize,
    next_arrival: usize,
    ids: u64,
    log: Vec<(Time, Act)>,
    outputs: Vec<Output>,
}

pub(super) type Outcome = Result<(), String>;

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let client = Self::client(settings);
        let own = if settings.has_key {
            relay::address_of(0, HOST)
        } else {
            Address::parse(NAME).expect("an address")
        };
        Self {
            settings: settings.clone(),
            client,
            model: Model::new(settings, own, START),
            now: START,
            wakeup: None,
            to_relay: VecDeque::new(),
            to_client: VecDeque::new(),
            arrived: 0,
            next_arrival: 0,
            ids: 0,
            log: vec![],
            outputs: vec![],
        }
    }

    fn client(settings: &Settings) -> Client {
        let identity = if settings.has_key {
            Identity::Key {
                secret: parties::key_of(0).clone(),
                host: parties::host(HOST),
            }
        } else {
            Identity::Name(Address::parse(NAME).expect("an address"))
        };
        let seed = [settings.seed; 16];
        Client::new(settings.config(), identity, seed, START, UNIX)
    }

    pub(super) fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Submit(draft) => self.submit(*draft)?,
            Step::Close => self.close()?,
            Step::Connect if self.is_dialing() => self.connect()?,
            Step::Cut if self.is_dialing() || self.has_link() => self.cut()?,
            Step::Reject {
                status,
                retry_after,
            } if self.is_dialing() => self.reject(*status, *retry_after)?,
            Step::Write(bytes) if self.has_link() => self.write(*bytes)?,
            Step::ReachRelay(count) => (0..*count).try_for_each(|_| self.reach_relay())?,
            Step::ReachClient(count) => (0..*count).try_for_each(|_| self.reach_client())?,
            Step::Say(says) if self.has_link() => self.say(says),
            Step::StrayPong(pong) => self.stray_pong(*pong)?,
            Step::Stray(number) => self.stray(*number)?,
            Step::Join if self.is_dialing() => self.join()?,
            Step::Exchange => self.exchange()?,
            Step::Sleep(time) => self.sleep(*time)?,
            Step::Jump(time) => self.now = self.now + *time,
            Step::SetBack(time) => {
                let back = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                self.now = Time::from_nanos(self.now.as_nanos().saturating_sub(back));
            }
            Step::Spurious => self.call_too_early()?,
            Step::Connect
            | Step::Cut
            | Step::Reject { .. }
            | Step::Write(_)
            | Step::Say(_)
            | Step::Join => {}
        }
        if matches!(step, Step::Jump(_) | Step::SetBack(_)) {
            return Ok(());
        }
        self.call_while_due()
    }

    pub(super) fn is_dialing(&self) -> bool {
        matches!(self.model.phase, Phase::Dialing { .. })
    }

    pub(super) fn has_link(&self) -> bool {
        self.model.has_link()
    }

    /// The latest time that a clock has shown.
    pub(super) fn now(&self) -> Time {
        self.model.now.max(self.now)
    }

    pub(super) const fn wakeup(&self) -> Option<Wakeup> {
        self.wakeup
    }

    /// Takes what a turn says, compares it with what must come, and looks at the client.
    fn end_turn(
        &mut self,
        act: Act,
        outputs: Vec<Output>,
        wakeup: Option<Wakeup>,
        wants: &[Want],
    ) -> Outcome {
        self.log.push((self.now, act));
        self.wakeup = wakeup;
        self.model.check_outputs(wants, &outputs)?;
        for output in &outputs {
            match output {
                Output::Transmit(frame) => self.to_relay.push_back(frame.clone()),
                Output::Hangup => self.forget_link(),
                Output::Dial | Output::Wake | Output::Confirmed { .. } | Output::Event(_) => {}
            }
        }
        self.outputs.extend(outputs);
        self.model.check_wakeup(wakeup)?;
        self.look()
    }

    /// What the client says about itself.
    fn look(&self) -> Outcome {
        let (client, model) = (&self.client, &self.model);
        let (accepted, confirmed) = (model.accepted.len() as u64, model.confirmed as u64);
        let is_right = client.submitted() == accepted
            && client.confirmed() == confirmed
            && client.is_flushed() == (accepted == confirmed)
            && client.is_ended() == model.is_ended()
            && client.dropped_duplicates() == model.dropped
            && client.address() == &model.address
            && [0, 1, 100, self.settings.outbox_bytes]
                .iter()
                .all(|&len| client.has_room_for(len) == model.has_room_for(len));
        if !is_right {
            return Err(format!("{client:?}, expected {model:?}"));
        }
        if model.confirmed > self.arrived {
            let arrived = self.arrived;
            return Err(format!("{confirmed} are confirmed, {arrived} have arrived"));
        }
        Ok(())
    }

    fn input(&mut self, input: Input, expect: impl FnOnce(&mut Model) -> Vec<Want>) -> Outcome {
        self.model.look(self.now);
        let wants = expect(&mut self.model);
        let (outputs, wakeup) = drain(self.client.handle_input(input.clone(), self.now));
        self.end_turn(Act::Input(input), outputs, wakeup, &wants)
    }

    fn timeout(&mut self) -> Outcome {
        self.model.look(self.now);
        let wants = self
            .model
            .is_due()
            .map_or(vec![], |reason| self.model.expired(reason));
        let (outputs, wakeup) = drain(self.client.handle_timeout(self.now));
        self.end_turn(Act::Timeout, outputs, wakeup, &wants)
    }

    /// Calls the client until nothing is due.
    pub(super) fn call_while_due(&mut self) -> Outcome {
        for _ in 0..16 {
            match self.wakeup {
                Some(wakeup) if wakeup.at <= self.now() => self.timeout()?,
                None if self.log.is_empty() => self.timeout()?,
                Some(_) | None => return Ok(()),
            }
        }
        Err(format!("{:?} does not come to rest", self.wakeup))
    }

    /// Lets time pass, and calls the client whenever it wants to be.
    pub(super) fn sleep(&mut self, time: Duration) -> Outcome {
        self.now = self.now();
        let until = self.now + time;
        for _ in 0..2000 {
            self.call_while_due()?;
            match self.wakeup {
                Some(wakeup) if wakeup.at <= until => self.now = wakeup.at,
                Some(_) | None => {
                    self.now = until;
                    return Ok(());
                }
            }
        }
        Err(format!("{:?} is called too often", self.wakeup))
    }

    /// A call too early changes nothing at all.
    fn call_too_early(&mut self) -> Outcome {
        self.call_while_due()?;
        // The first call may bring the time along.
        self.timeout()?;
        let (before, wakeup) = (format!("{:?}", self.client), self.wakeup);
        self.timeout()?;
        let after = format!("{:?}", self.client);
        (before == after && self.wakeup == wakeup)
            .then_some(())
            .ok_or_else(|| format!("{before}, and after a call too early {after}"))
    }
}

fn drain(mut turn: Turn<'_>) -> (Vec<Output>, Option<Wakeup>) {
    let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
    (outputs, turn.finish())
}
