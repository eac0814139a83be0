//! A hub and its model in the same story, side by side.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::hub::{Admission, ConnId, Hub, Input, ShardId, Shards, Wakeup};
use pinch_proto::queue::Restored;
use pinch_proto::{Close, CloseCode, Time, UnixMillis};

use super::bus::Bus;
use super::cast::{Agent, To, Who};
use super::ledger::Ledger;
use super::message::message;
use super::prose::{self, Line};
use super::settings::{PLENTY, Settings};
use super::step::{Clock, Credit, Pong, Session, Size, Socket, Step, Store, What};
use super::store::Shelf;
use super::turn::{Broken, Call};
use crate::model::Model;

/// The same moment on the two clocks: the beginning of every story.
const START: Time = Time::from_nanos(1_000_000_000_000);
const UNIX_START: UnixMillis = UnixMillis(1_700_000_000_000);

/// So many messages are a flood: some more than go to a peer before a ping follows, if they are small
/// enough, as those from or to Bob are.
const FLOOD: usize = 520;

/// More falls due within the time of one step only if the hub spins.
const MAX_WAKEUPS: usize = 2000;

/// A connection of the hub that there is now.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) conn: ConnId,
    pub(super) agent: Agent,
    /// There may be something for it.
    pub(super) awake: bool,
    pub(super) ended: bool,
    pub(super) send_only: bool,
    /// All pings that it was given, and those that it has not answered.
    pub(super) pings: Vec<u64>,
    pub(super) open_pings: VecDeque<u64>,
}

/// The hub of one shard, and its model.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) hub: Hub,
    pub(super) model: Model,
    /// The latest time that was handed in.
    pub(super) latest: Time,
    pub(super) wakeup: Option<Wakeup>,
    /// How many connections the other shards had when somebody joined last.
    pub(super) others: usize,
    /// All connections that this hub had, in order.
    pub(super) people: Vec<Person>,
}

/// Hubs and their models on their way through a story.
#[derive(Debug)]
pub struct Run {
    pub(super) settings: Settings,
    pub(super) shards: Shards,
    /// The shard to which something happens.
    pub(super) at: ShardId,
    pub(super) here: Station,
    /// The others; none in the place of the one above.
    away: Vec<Option<Station>>,
    pub(super) bus: Bus,
    pub(super) now: Time,
    pub(super) shelf: Shelf,
    pub(super) ledger: Ledger,
    /// What happened to this hub, and to those before it.
    pub(super) lines: Vec<Line>,
    pub(super) before: String,
    /// The driver takes one output of the next turn, and forgets the others.
    pub(super) forgets: bool,
    pub(super) shut_down: bool,
    /// What this hub began with.
    beginning: (Time, UnixMillis, Restored),
}

impl Run {
    /// The beginning of a story: some have joined.
    ///
    /// # Errors
    /// [`Broken`] if that goes wrong already.
    pub fn new(settings: Settings) -> Result<Self, Box<Broken>> {
        let settings = settings.fitted();
        let beginning = (START, UNIX_START, Restored::default());
        let shards = settings.spread([29; 16]);
        let (here, away) = stations(&settings, &shards, &beginning);
        let mut run = Self {
            settings,
            shards,
            at: ShardId::default(),
            here,
            away,
            bus: Bus::default(),
            now: START,
            shelf: Shelf::default(),
            ledger: Ledger::new(&settings),
            lines: vec![],
            before: format!("A hub with {settings}.\n"),
            forgets: false,
            shut_down: false,
            beginning,
        };
        for agent in Agent::ALL.into_iter().take(settings.present) {
            run.take(&Step::Join(agent, false, Session::Plain))?;
            let earlier = false;
            run.take(&Step::Catch(Who { agent, earlier }))?;
        }
        run.take(&Step::Store(Store::Serve(5)))?;
        Ok(run)
    }

    /// Lets one more thing happen.
    ///
    /// # Errors
    /// [`Broken`] if the hub and the model differ, or something is not so that must be so.
    pub fn take(&mut self, step: &Step) -> Result<(), Box<Broken>> {
        self.lines.push(Line::Step(*step));
        match *step {
            Step::Join(agent, by_key, session) => self.join(agent, by_key, session),
            Step::Send {
                from,
                to,
                what,
                size,
            } => self.send(from, to, what, size),
            Step::Flood(from, to) => self.flood(from, to),
            Step::Writable(who, credit) => self.writable(who, credit),
            Step::Pong(who, pong) => self.pong(who, pong),
            Step::Catch(who) => self.newest(who).map_or(Ok(()), |conn| self.catch_up(conn)),
            Step::Socket(who, socket) => self.socket(who, socket),
            Step::Store(store) => self.store(store),
            Step::Clock(clock) => self.clock(clock),
            Step::Forget => {
                // What several shards say comes in bundles: then nothing is left for later.
                self.forgets = self.settings.shards == 1;
                Ok(())
            }
            Step::Shutdown => {
                self.shut_down = true;
                self.for_each_shard(|run| run.give(&Input::Shutdown))
            }
            Step::Bus(bus) => self.carry(bus),
            Step::Restart(crash) => self.restart(crash),
        }
    }

    fn join(&mut self, agent: Agent, by_key: bool, session: Session) -> Result<(), Box<Broken>> {
        let admission = if by_key {
            Admission::Proven
        } else {
            Admission::Named
        };
        let address = agent.address();
        let options = session.options();
        self.go_to_agent(agent);
        let of_one = |(shard, station): (ShardId, &Station)| {
            let stats = station.hub.stats();
            let count = stats.connections + stats.closing;
            if shard == self.at {
                0
            } else {
                usize::try_from(count).expect("few")
            }
        };
        let others = self.stations().map(of_one).sum();
        self.here.hub.set_other_connections(others);
        self.here.model.others = others;
        self.here.others = others;
        self.give(&Input::Register {
            address,
            admission,
            options,
        })
    }

    fn send(&mut self, from: Who, to: To, what: What, size: Size) -> Result<(), Box<Broken>> {
        let Some(conn) = self.newest(from) else {
            return Ok(());
        };
        let message = self.write(from.agent, to, what, size).into();
        self.give(&Input::Received { conn, message })
    }

    fn write(&mut self, from: Agent, to: To, what: What, size: Size) -> Bytes {
        let number = self.ledger.next_number();
        let message = message(from, to, what, size, number, &self.settings);
        self.ledger.sends(&message, from, to);
        message
    }

    fn flood(&mut self, from: Who, to: Agent) -> Result<(), Box<Broken>> {
        let Some(conn) = self.newest(from) else {
            return Ok(());
        };
        for _ in 0..FLOOD {
            let message = self
                .write(from.agent, To::Agent(to), What::Message, Size::Small(0))
                .into();
            self.exchange(&Call::Input(Input::Received { conn, message }))?;
        }
        self.check()
    }

    fn writable(&mut self, who: Who, credit: Credit) -> Result<(), Box<Broken>> {
        if let Some(conn) = self.newest(who) {
            self.transmit(conn, credit.bytes())?;
        }
        Ok(())
    }

    /// Its socket takes everything, until there is nothing more, and it answers all pings.
    pub(super) fn catch_up(&mut self, conn: ConnId) -> Result<(), Box<Broken>> {
        for _ in 0..8 {
            if self.transmit(conn, PLENTY)?.is_empty() {
                break;
            }
            if let Some(last) = self
                .person(conn)
                .and_then(|person| person.open_pings.back().copied())
            {
                self.answer_ping(conn, last)?;
            }
        }
        Ok(())
    }

    fn pong(&mut self, who: Who, pong: Pong) -> Result<(), Box<Broken>> {
        let Some(conn) = self.newest(who) else {
            return Ok(());
        };
        let person = self.person(conn);
        let number = match pong {
            Pong::Last => person.and_then(|person| person.pings.last().copied()),
            Pong::First => person.and_then(|person| person.open_pings.front().copied()),
            Pong::Again => person.and_then(|person| person.pings.first().copied()),
            Pong::Number(number) => Some(number.into()),
            Pong::Unasked => Some(u64::MAX),
            Pong::Garbled => {
                let payload = Bytes::from_static(b"pong");
                return self.give(&Input::Pong { conn, payload });
            }
        };
        number.map_or(Ok(()), |number| self.answer_ping(conn, number))
    }

    fn answer_ping(&mut self, conn: ConnId, number: u64) -> Result<(), Box<Broken>> {
        if let Some(person) = self
            .here
            .people
            .iter_mut()
            .find(|person| person.conn == conn)
        {
            person.open_pings.retain(|open| *open > number);
        }
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        self.give(&Input::Pong { conn, payload })
    }

    fn socket(&mut self, who: Who, socket: Socket) -> Result<(), Box<Broken>> {
        let Some(conn) = self.newest(who) else {
            return Ok(());
        };
        self.give(&match socket {
            Socket::Blocked(progressed) => Input::Blocked { conn, progressed },
            Socket::Ping(payload) => Input::Ping {
                conn,
                payload: vec![payload].into(),
            },
            Socket::Partial(bytes, short_fragments) => Input::Partial {
                conn,
                bytes: 4 * usize::from(bytes),
                short_fragments: short_fragments.into(),
            },
            Socket::Faulty(fault) => Input::Faulty { conn, fault },
            Socket::PeerClosed(says_why) => Input::PeerClosed {
                conn,
                close: says_why.then(|| Close::new(CloseCode::NORMAL, "bye")),
            },
            Socket::Closed(clean) => Input::Closed { conn, clean },
        })
    }

    fn clock(&mut self, clock: Clock) -> Result<(), Box<Broken>> {
        let due = self.next_due();
        let due = due.map_or(self.now, |(at, _)| self.now.max(at));
        let millis = |millis: u8| Duration::from_millis(millis.into());
        match clock {
            Clock::Pass(passed) => return self.pass(millis(passed)),
            Clock::Skip(skipped) => self.now = self.now + millis(skipped),
            Clock::Due => {
                self.now = due;
                return self.for_each_shard(Self::timeout);
            }
            Clock::AlmostDue => {
                let almost = Time::from_nanos(due.as_nanos() - 1);
                self.now = self.now.max(almost);
                return self.for_each_shard(|run| {
                    let wakeup = run.here.wakeup;
                    let is_early = wakeup.is_some_and(|wakeup| wakeup.at > run.here.latest);
                    if is_early { run.timeout() } else { Ok(()) }
                });
            }
            Clock::Long => self.now = self.now + Duration::from_secs(3600),
            Clock::Back(back) => {
                let back = millis(back).as_nanos();
                let now = u128::from(self.now.as_nanos()) - back;
                self.now = Time::from_nanos(u64::try_from(now).unwrap_or(0));
            }
            Clock::Timeout => return self.for_each_shard(Self::timeout),
        }
        Ok(())
    }

    /// Time passes, and what falls due is done then.
    pub(super) fn pass(&mut self, passed: Duration) -> Result<(), Box<Broken>> {
        let end = self.now + passed;
        let mut wakeups = 0;
        while let Some((at, shard)) = self.next_due().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.go_to(shard);
            self.timeout()?;
            wakeups += 1;
            if wakeups > MAX_WAKEUPS {
                return Err(self.broken("there is always something to do"));
            }
        }
        self.now = end;
        Ok(())
    }

    /// The relay is gone, with all that it had in memory, and another one has its store.
    pub(super) fn restart(&mut self, crash: bool) -> Result<(), Box<Broken>> {
        self.check_replay()?;
        let names = self.names();
        self.before += &prose::log(&self.lines, &names);
        self.lines.clear();
        if !crash {
            self.drain_store();
        }
        let queue = core::mem::take(&mut self.shelf).queue;
        self.ledger.restart(&queue);
        self.shelf.queue = queue;
        self.shut_down = false;
        self.bus = Bus::default();
        let unix = self.unix(self.now);
        self.beginning = (self.now, unix, self.shelf.queue.restored());
        // What a store has does not depend on how many shards there are.
        if self.settings.shards > 1 || self.away.len() > 1 {
            self.settings.shards = self.settings.shards % 4 + 1;
        }
        self.shards = self.settings.spread([49; 16]);
        (self.here, self.away) = stations(&self.settings, &self.shards, &self.beginning);
        self.at = ShardId::default();
        self.ledger.at = self.at;
        self.for_each_shard(Self::timeout)
    }

    /// From here on, things happen to `shard`.
    pub(super) fn go_to(&mut self, shard: ShardId) {
        if let Some(there) = self.away[shard.index()].take() {
            let here = core::mem::replace(&mut self.here, there);
            self.away[self.at.index()] = Some(here);
            self.at = shard;
            self.ledger.at = shard;
        }
    }

    pub(super) fn go_to_agent(&mut self, agent: Agent) {
        self.go_to(self.shards.of(agent.address().as_str()));
    }

    pub(super) fn for_each_shard(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<(), Box<Broken>>,
    ) -> Result<(), Box<Broken>> {
        for shard in self.shards.all() {
            self.go_to(shard);
            act(self)?;
        }
        Ok(())
    }

    pub(super) fn stations(&self) -> impl Iterator<Item = (ShardId, &Station)> {
        let all = self.shards.all().zip(&self.away);
        all.map(|(shard, away)| (shard, away.as_ref().unwrap_or(&self.here)))
    }

    /// When something is due, and where.
    fn next_due(&self) -> Option<(Time, ShardId)> {
        let due = |(shard, station): (ShardId, &Station)| Some((station.wakeup?.at, shard));
        self.stations().filter_map(due).min()
    }

    /// What the wall clock shows.
    pub(super) fn unix(&self, latest: Time) -> UnixMillis {
        // A clock that goes back may show a time from before the story.
        let millis = |time: Time| (time.as_nanos() / 1_000_000).cast_signed();
        UnixMillis(UNIX_START.0 + millis(self.now.max(latest)) - millis(START))
    }

    /// Goes to the connection that is meant.
    fn newest(&mut self, who: Who) -> Option<ConnId> {
        self.go_to_agent(who.agent);
        let mut all = self
            .here
            .people
            .iter()
            .rev()
            .filter(|person| person.agent == who.agent);
        let newest = all.next()?;
        let earlier = all.next().filter(|_| who.earlier);
        Some(earlier.unwrap_or(newest).conn)
    }

    fn person(&self, conn: ConnId) -> Option<&Person> {
        self.here.people.iter().find(|person| person.conn == conn)
    }

    pub(super) fn scene(&mut self, scene: &'static str) {
        self.lines.push(Line::Scene(scene));
    }

    pub(super) fn beginning(&self) -> (Time, UnixMillis, Restored) {
        self.beginning.clone()
    }
}

/// The shards of a relay that begins: the first, and the others, with none in its place.
fn stations(
    settings: &Settings,
    shards: &Shards,
    beginning: &(Time, UnixMillis, Restored),
) -> (Station, Vec<Option<Station>>) {
    let (now, unix, restored) = beginning;
    let station = |id| {
        let place = settings.place(shards, id);
        let hub = Hub::new_shard(settings.config(), place.clone(), *now, *unix);
        Station {
            hub: hub.with_restored(restored.clone()),
            model: Model::new(*settings, place, *now, *unix).with_restored(restored.clone()),
            latest: *now,
            wakeup: None,
            others: 0,
            people: vec![],
        }
    };
    let first = ShardId::default();
    let away = shards.all().map(|id| (id != first).then(|| station(id)));
    (station(first), away.collect())
}
