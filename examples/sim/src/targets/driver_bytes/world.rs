//! A relay in memory, two friends who do what they should, and strangers who do not.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use pinch_driver::{Auth, MemoryStore, Relay, RelayStats, Runtime as _};
use pinch_proto::{Address, Host, SecretKey, hub};

use super::ear::{Ear, Heard};
use super::executor::Virtual;
use super::pieces::{Piece, frame, letter};
use super::script::{Action, Entry, Finale, Settings, Step};
use super::socket::{Manners, Wire, socket};
use super::stranger::{Court, Stranger};

pub(super) type Outcome = Result<(), String>;

const HOST: &str = "relay.example.com";

/// How many strangers come, at most.
const MAX_STRANGERS: usize = 4;

/// How often friends may answer what the relay says before it has to be silent.
const MAX_EXCHANGES: usize = 10_000;

/// How long a silent peer is put up with, at most: its heartbeat, its pong, and its farewell, or a
/// socket that takes nothing, and its farewell.
const PATIENCE: Duration = Duration::from_secs(60);

/// As long as a relay that shuts down may take.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// An agent that does what it should.
#[derive(Debug)]
struct Friend {
    address: Address,
    wire: Wire,
    ear: Ear,
    messages: Vec<Bytes>,
    close: Option<u16>,
}

#[derive(Debug)]
pub(super) struct World {
    settings: Settings,
    runtime: Virtual,
    relay: Option<Arc<Relay<Virtual>>>,
    alice: Friend,
    bob: Friend,
    /// Who writes to strangers. She is not spared what becomes of those who are refused much.
    carol: Friend,
    strangers: Vec<Stranger>,
    /// What Alice has sent to Bob.
    greetings: Vec<Bytes>,
    sent: usize,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let runtime = Virtual::default();
        let config = hub::Config::new(host())
            .rate_limit(None)
            .marker_interval(Duration::from_millis(5))
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
            .max_pending(settings.max_pending);
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
            settings: settings.clone(),
            runtime,
            relay: Some(Arc::new(relay)),
            alice,
            bob,
            carol,
            strangers: vec![],
            greetings: vec![],
            sent: 0,
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
            } => {
                let (court, stranger) = self.stranger(*stranger);
                let Some(stranger) = stranger else {
                    return Ok(());
                };
                let whole = stranger.bytes_of(piece, court);
                let mut damaged = damage
                    .iter()
                    .fold(whole.clone(), |bytes, it| it.applied(bytes));
                // What was repeated again and again is no story any more.
                damaged.truncate(2 * whole.len().max(20));
                let request = match piece {
                    Piece::Request(request) if damaged == whole => Some(*request),
                    Piece::Request(_)
                    | Piece::Answer
                    | Piece::Envelope { .. }
                    | Piece::Frame { .. }
                    | Piece::Raw(_) => None,
                };
                stranger.write(&damaged, request);
            }
            Action::Read { stranger, bytes } => {
                if let (_, Some(stranger)) = self.stranger(*stranger) {
                    stranger.wire.make_room(*bytes);
                }
            }
            Action::Behave { stranger, manners } => {
                if let (_, Some(stranger)) = self.stranger(*stranger) {
                    stranger.wire.behave(*manners);
                }
            }
            Action::End { stranger } => {
                if let (_, Some(stranger)) = self.stranger(*stranger) {
                    stranger.wire.end();
                    stranger.has_ended = true;
                }
            }
            Action::Reset { stranger } => {
                if let (_, Some(stranger)) = self.stranger(*stranger) {
                    stranger.wire.reset();
                    stranger.is_broken = true;
                }
            }
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

    fn stranger(&mut self, number: u8) -> (Court<'_>, Option<&mut Stranger>) {
        let court = Court {
            settings: &self.settings,
            alice: &self.alice.address,
            bob: &self.bob.address,
        };
        let number = usize::from(number) % self.strangers.len().max(1);
        (court, self.strangers.get_mut(number))
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
            Entry::Vouched => relay.adopt_upgraded(end, Some(address.clone())),
            Entry::ToProve => relay.adopt_upgraded(end, None),
        }
        self.strangers
            .push(Stranger::new(key, address, wire, entry));
    }

    fn greet(&mut self, length: usize) {
        self.sent += 1;
        let greeting = letter(
            self.alice.address.as_str(),
            self.bob.address.as_str(),
            length + self.sent,
        );
        self.alice.wire.write(&frame(0x82, &greeting));
        if greeting.len() <= self.settings.envelope_bytes {
            self.greetings.push(greeting);
        }
    }

    fn flood(&mut self, stranger: u8, length: usize, count: u8) {
        for _ in 0..count {
            let number = usize::from(stranger) % self.strangers.len().max(1);
            let Some(stranger) = self.strangers.get_mut(number) else {
                return;
            };
            // Each has another length, so that they can be told apart.
            let length = length + stranger.flood.len();
            let (from, to) = (self.carol.address.as_str(), stranger.address.as_str());
            let message = letter(from, to, length);
            if message.len() <= self.settings.envelope_bytes && !stranger.flood.contains(&message) {
                self.carol.wire.write(&frame(0x82, &message));
                stranger.flood.push(message);
            }
        }
    }

    /// Lets everybody talk until there is nothing more to say.
    fn settle(&mut self) -> Outcome {
        for _ in 0..MAX_EXCHANGES {
            self.runtime.run()?;
            let court = Court {
                settings: &self.settings,
                alice: &self.alice.address,
                bob: &self.bob.address,
            };
            let mut has_said = false;
            for stranger in &mut self.strangers {
                has_said |= stranger.hear(court)?;
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
        let others = 4 + usize::from(self.settings.has_store);
        let tasks = if self.relay.is_some() {
            streams + others
        } else {
            0
        };
        if hub.received == fates
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
        let court = Court {
            settings: &self.settings,
            alice: &self.alice.address,
            bob: &self.bob.address,
        };
        let mut others = self.bob.messages.clone();
        for (number, stranger) in self.strangers.iter().enumerate() {
            let own = stranger.address.as_str().as_bytes();
            let is_own = |message: &Bytes| message.windows(own.len()).any(|part| part == own);
            let to_bob: Vec<_> = others.extract_if(.., |message| is_own(message)).collect();
            stranger
                .check(&to_bob, court)
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
        let all = [&self.alice.wire, &self.bob.wire];
        let mut all = all
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

impl Friend {
    fn join(relay: &Relay<Virtual>, number: u8) -> Self {
        let (_, address) = agent(number);
        let (end, wire) = socket(usize::MAX);
        relay.adopt_upgraded(end, Some(address.clone()));
        Self {
            address,
            wire,
            ear: Ear::new(true),
            messages: vec![],
            close: None,
        }
    }

    /// Hears what the relay has written, and answers; true if it was something.
    fn hear(&mut self) -> Result<bool, String> {
        let bytes = self.wire.take();
        for heard in self.ear.hear(&bytes)? {
            match heard {
                Heard::Message(message) => self.messages.push(message),
                Heard::Ping(payload) => self.wire.write(&frame(0x8a, &payload)),
                Heard::Close(Some(code)) => {
                    self.close = Some(code);
                    self.wire.write(&frame(0x88, &code.to_be_bytes()));
                }
                Heard::Status(_) | Heard::Pong(_) | Heard::Close(None) => {
                    return Err(format!("a friend hears {heard:?}"));
                }
            }
        }
        Ok(!bytes.is_empty())
    }
}

fn host() -> Host {
    Host::parse(HOST).expect("it is a host")
}

/// The key and the address of an agent.
fn agent(number: u8) -> (SecretKey, Address) {
    let key = SecretKey::from_seed([number; SecretKey::SEED_LEN]);
    let address = Address::from_public_key(&key.public_key(), &host());
    (key, address)
}
