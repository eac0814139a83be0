//! A relay in memory, friends who do what they should, and strangers who do not.

use core::num::NonZero;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use pinch_driver::{Auth, MemoryStore, Relay, RelayStats, Runtime as _, Upgrade};
use pinch_proto::hub;
use pinch_proto::peers::Limits;

use super::executor::Virtual;
use super::friend::{Friend, agent, host};
use super::pieces::{frame, letter};
use super::script::{Action, Entry, Finale, Settings, Step};
use super::socket::{Manners, Wire, socket};
use super::stranger::{Court, Stranger};

pub(super) type Outcome = Result<(), String>;

/// How many strangers come, at most.
const MAX_STRANGERS: usize = 4;

/// The hubs of the relay.
const SHARDS: NonZero<u16> = NonZero::new(2).unwrap();

/// How often friends may answer what the relay says before it has to be silent.
const MAX_EXCHANGES: usize = 10_000;

/// How long a silent peer is put up with, at most: its heartbeat, its pong, and its farewell, or a
/// socket that takes nothing, and its farewell.
const PATIENCE: Duration = Duration::from_secs(60);

/// As long as a relay that shuts down may take.
const SHUTDOWN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct World {
    court: Court,
    runtime: Virtual,
    relay: Option<Arc<Relay<Virtual>>>,
    alice: Friend,
    bob: Friend,
    /// Who writes to strangers. She is not spared what becomes of those who are refused much.
    carol: Friend,
    strangers: Vec<Stranger>,
    /// What Alice has sent to Bob.
    greetings: Vec<Bytes>,
    greeted: usize,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let runtime = Virtual::default();
        let config = hub::Config::new(host())
            .rate_limit(None)
            .join_limit(None)
            .ack_probe_interval(Duration::from_millis(5))
            .envelope_bytes(settings.envelope_bytes)
            .message_bytes(settings.message_bytes)
            .outbox_bytes(settings.outbox_bytes)
            .unconfirmed_bytes(settings.unconfirmed_bytes)
            .refusal_bytes(settings.refusal_bytes);
        let auth = if settings.is_open {
            Auth::Open
        } else {
            Auth::Challenge
        };
        let mut builder = Relay::builder_on(runtime.clone())
            .hub(config)
            .auth(auth)
            .shards(SHARDS)
            .seed([0; 16])
            .limits(Limits::new().total_pending(settings.max_pending));
        if settings.has_store {
            builder = builder.store(MemoryStore::new());
        }
        let relay = builder.detached().map_err(|error| error.to_string())?;
        let alice = Friend::join(&relay, 0);
        runtime.run()?;
        let bob = Friend::join(&relay, 1);
        runtime.run()?;
        let carol = Friend::join(&relay, 2);
        let mut world = Self {
            court: Court {
                settings: settings.clone(),
                alice: alice.address.clone(),
                bob: bob.address.clone(),
            },
            runtime,
            relay: Some(Arc::new(relay)),
            alice,
            bob,
            carol,
            strangers: vec![],
            greetings: vec![],
            greeted: 0,
        };
        world.settle()?;
        Ok(world)
    }

    pub(super) fn step(&mut self, step: &Step) -> Outcome {
        self.act(&step.action)?;
        if step.relay_runs {
            self.settle()?;
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Connect { entry, room } => self.connect(*entry, *room),
            Action::Write {
                stranger,
                piece,
                damage,
            } => self.with(*stranger, |it, court| it.write(piece, damage, court)),
            Action::Read { stranger, bytes } => {
                self.with(*stranger, |it, _| it.wire.make_room(*bytes));
            }
            Action::Behave { stranger, manners } => {
                self.with(*stranger, |it, _| it.wire.behave(*manners));
            }
            Action::End { stranger } => self.with(*stranger, |it, _| it.end()),
            Action::Reset { stranger } => self.with(*stranger, |it, _| it.reset()),
            Action::Greet { length } => self.greet(*length),
            Action::Flood {
                stranger,
                length,
                count,
            } => self.flood(*stranger, *length, *count),
            Action::Sleep(time) => {
                for stranger in &mut self.strangers {
                    stranger.is_late = true;
                }
                self.pass(*time)?;
            }
        }
        Ok(())
    }

    /// Does something with a stranger, if there is one.
    fn with(&mut self, number: u8, act: impl FnOnce(&mut Stranger, &Court)) {
        let number = usize::from(number) % self.strangers.len().max(1);
        if let Some(stranger) = self.strangers.get_mut(number) {
            act(stranger, &self.court);
        }
    }

    fn connect(&mut self, entry: Entry, room: usize) {
        let Some(relay) = self.relay.as_deref() else {
            return;
        };
        let Ok(number) = u8::try_from(self.strangers.len()) else {
            return;
        };
        if self.strangers.len() == MAX_STRANGERS {
            return;
        }
        let (key, address) = agent(3 + number);
        let (end, wire) = socket(room);
        match entry {
            Entry::Fresh => relay.adopt(end),
            Entry::Vouched => {
                relay.adopt_upgraded(end, Upgrade::trusted().vouched_for(address.clone()));
            }
            Entry::ToProve => relay.adopt_upgraded(end, Upgrade::trusted()),
        }
        self.strangers
            .push(Stranger::new(key, address, wire, entry));
    }

    fn greet(&mut self, length: usize) {
        self.greeted += 1;
        let greeting = letter(
            self.alice.address.as_str(),
            self.bob.address.as_str(),
            length + self.greeted,
        );
        self.alice.wire.write(&frame(0x82, &greeting));
        if greeting.len() <= self.court.settings.envelope_bytes {
            self.greetings.push(greeting);
        }
    }

    fn flood(&mut self, stranger: u8, length: usize, count: u8) {
        let carol = self.carol.address.clone();
        let mut messages = vec![];
        self.with(stranger, |stranger, court| {
            for _ in 0..count {
                // Each has another length, so that they can be told apart.
                let length = length + stranger.flood.len();
                let message = letter(carol.as_str(), stranger.address.as_str(), length);
                let is_new = !stranger.flood.contains(&message);
                if is_new && message.len() <= court.settings.envelope_bytes {
                    stranger.flood.push(message.clone());
                    messages.push(message);
                }
            }
        });
        for message in messages {
            self.carol.wire.write(&frame(0x82, &message));
        }
    }

    /// Lets everybody talk until there is nothing more to say.
    fn settle(&mut self) -> Outcome {
        for _ in 0..MAX_EXCHANGES {
            self.runtime.run()?;
            let mut has_said = false;
            for stranger in &mut self.strangers {
                has_said |= stranger.hear(&self.court)?;
            }
            has_said |= self.alice.hear()?;
            has_said |= self.bob.hear()?;
            has_said |= self.carol.hear()?;
            if !has_said {
                return self.check_books();
            }
        }
        Err("the relay never stops talking".into())
    }

    fn pass(&mut self, time: Duration) -> Outcome {
        let until = self.runtime.elapsed() + time;
        self.settle()?;
        while self.runtime.elapsed() < until {
            self.runtime.pass_until(until);
            self.settle()?;
        }
        Ok(())
    }

    fn stats(&self) -> RelayStats {
        self.relay.as_deref().map(Relay::stats).unwrap_or_default()
    }

    /// The equations of the hub's counters hold, and there are as many tasks as there is work for.
    fn check_books(&self) -> Outcome {
        let stats = self.stats();
        let hub = stats.hub;
        let fates = hub.accepted + hub.consumed + hub.blocked + hub.refused() + hub.violations;
        let given = hub.delivered + hub.returned + hub.unconfirmed + hub.stored + hub.kept;
        let held = hub.queued + hub.in_flight + hub.storing;
        let living = hub.connections + hub.closing;
        let streams = self
            .strangers
            .iter()
            .filter(|it| !it.wire.is_dropped())
            .count();
        let timers = usize::from(SHARDS.get());
        let others = 3 + timers + usize::from(self.court.settings.has_store);
        let tasks = if self.relay.is_some() {
            streams + others
        } else {
            0
        };
        if hub.received + hub.arrived == fates + hub.forwarded
            && hub.accepted + hub.read == given + held
            && hub.registered == living + hub.closed
            && stats.tasks <= tasks
        {
            Ok(())
        } else {
            Err(format!("{streams} streams of strangers, and {stats:?}"))
        }
    }

    /// Strangers behave from now on, though they still say nothing; what was said has to come to its
    /// end.
    pub(super) fn calm_down(&mut self) -> Outcome {
        for stranger in &self.strangers {
            stranger.wire.behave(Manners::GOOD);
            stranger.wire.make_room(usize::MAX);
        }
        self.settle()?;
        // Bob's window opens when he has confirmed what he has got.
        self.pass(Duration::from_millis(1500))?;
        let mut others = self.bob.messages.clone();
        for (number, stranger) in self.strangers.iter().enumerate() {
            let own = stranger.address.as_str().as_bytes();
            let is_own = |message: &Bytes| message.windows(own.len()).any(|part| part == own);
            let to_bob: Vec<_> = others.extract_if(.., |message| is_own(message)).collect();
            stranger
                .check(&to_bob, &self.court)
                .map_err(|broken| format!("stranger {number}: {broken}"))?;
        }
        if others == self.greetings {
            Ok(())
        } else {
            Err(format!("Bob got {others:x?}, not {:x?}", self.greetings))
        }
    }

    pub(super) fn end(&mut self, finale: Finale) -> Outcome {
        match finale {
            Finale::Silence => self.fall_silent()?,
            Finale::ShutDown => self.shut_down()?,
            Finale::Drop => {}
        }
        self.relay = None;
        self.settle()?;
        let held = self.runtime.held();
        let friends = [&self.alice, &self.bob, &self.carol];
        let mut all = friends
            .map(|it| &it.wire)
            .into_iter()
            .chain(self.strangers.iter().map(|it| &it.wire));
        if held == (0, 0) && all.all(Wire::is_dropped) {
            Ok(())
        } else {
            Err(format!("tasks and timers are held: {held:?}"))
        }
    }

    /// Whoever says nothing any more is given up in time; friends are not.
    fn fall_silent(&mut self) -> Outcome {
        self.pass(PATIENCE)?;
        if let Some(number) = self.strangers.iter().position(|it| !it.wire.is_dropped()) {
            return Err(format!("stranger {number} is still put up with"));
        }
        self.greet(1);
        self.pass(Duration::from_secs(1))?;
        let stats = self.stats();
        let has_greeted = self.bob.messages.last() == self.greetings.last();
        let is_left = self.carol.close.is_some();
        let friends = if is_left { 2 } else { 3 };
        if has_greeted && stats.hub.connections == friends && stats.pending == 0 {
            Ok(())
        } else {
            Err(format!("friends are forgotten: {stats:?}"))
        }
    }

    /// A relay that shuts down says so, and ends in bounded time, whatever strangers do.
    fn shut_down(&mut self) -> Outcome {
        let Some(relay) = self.relay.clone() else {
            return Ok(());
        };
        let is_down = Arc::new(AtomicBool::new(false));
        let down = Arc::clone(&is_down);
        self.runtime.spawn(async move {
            relay.shutdown().await;
            down.store(true, Ordering::Relaxed);
        });
        self.pass(SHUTDOWN)?;
        let stats = self.stats();
        let hub = stats.hub;
        let is_empty = hub.connections + hub.closing + hub.queued + hub.in_flight == 0;
        if !is_down.load(Ordering::Relaxed) || !is_empty || stats.tasks + stats.pending > 0 {
            return Err(format!("the relay does not end: {stats:?}"));
        }
        if [self.alice.close, self.bob.close] != [Some(1001); 2] {
            return Err(format!(
                "friends heard {:?}, {:?}",
                self.alice.close, self.bob.close
            ));
        }
        Ok(())
    }
}
