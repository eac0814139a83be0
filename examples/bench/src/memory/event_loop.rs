//! A relay as a thread for each shard that drives [`Session`] and [`Hub`] directly, without tasks,
//! wakers and locks: what an event loop does, less the system.

use core::num::NonZeroU16;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use pinch_proto::hub::{
    Addressing, ConnId, Hub, Input, JoinRefusal, Output, Parcel, Shard, ShardId, Shards, Turn,
    Wakeup,
};
use pinch_proto::{Host, Time};
use pinch_tokio::Auth;
use pinch_tokio::session::{Config, Entry, Event, MAX_READ, Session, WriteBatch};

use super::agent::Agent;
use super::socket::Run;
use super::{MemoryError, hub_config};
use crate::load::unix_now;

/// Maximum number of bytes that a round takes from the hub.
const CREDIT: usize = 256 << 10;

/// Maximum duration of a sleep.
const TICK: Duration = Duration::from_millis(1);

/// Number of rounds between two looks at the clock and at what other shards have sent.
const ROUNDS: usize = 64;

/// Parcels of one shard.
type Delivery = (ShardId, Vec<Parcel>);

/// The threads of a relay.
#[derive(Debug)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have ended.
    pub(super) fn join(self) {
        for thread in self.0 {
            thread.join().expect("a shard does not panic");
        }
    }
}

/// Starts a thread for each shard. Each of `agents` joins in the shard of its address.
pub(super) fn start(
    count: NonZeroU16,
    agents: Vec<Agent>,
    window: usize,
    run: &Arc<Run>,
) -> Result<Threads, MemoryError> {
    let shards = Shards::new(count, [7; 16]);
    let (senders, inboxes): (Vec<_>, Vec<_>) = shards.all().map(|_| channel()).unzip();
    let mut parts: Vec<Vec<Agent>> = shards.all().map(|_| Vec::new()).collect();
    for agent in agents {
        parts[shards.of(agent.address()).index()].push(agent);
    }
    let mut threads = Vec::new();
    for ((id, inbox), agents) in shards.all().zip(inboxes).zip(parts) {
        let (shards, senders, run) = (shards.clone(), senders.clone(), Arc::clone(run));
        let event_loop = move || {
            let mut event_loop = EventLoop::new(Shard::new(shards, id), agents, window, run);
            event_loop.run(&inbox, &senders);
        };
        threads.push(thread::Builder::new().spawn(event_loop)?);
    }
    Ok(Threads(threads))
}

struct EventLoop {
    id: ShardId,
    hub: Hub,
    wakeup: Option<Wakeup>,
    connections: Vec<Connection>,
    /// Places in `connections`, by [`ConnId::index`].
    places: Vec<usize>,
    /// Places of the connections whose turn comes.
    ready: VecDeque<usize>,
    outputs: Outputs,
    buffer: Vec<u8>,
    inputs: Vec<Input>,
    batch: WriteBatch,
    window: usize,
    begun: bool,
    began: Instant,
    run: Arc<Run>,
}

struct Connection {
    session: Session,
    agent: Agent,
    is_ready: bool,
}

/// What the hub has said and was not done yet.
#[derive(Default)]
struct Outputs {
    woken: Vec<ConnId>,
    /// For each shard.
    parcels: Vec<Vec<Parcel>>,
    joined: Option<Result<ConnId, JoinRefusal>>,
}

impl Outputs {
    fn drain<'a>(&mut self, mut turn: Turn<'a>) -> Turn<'a> {
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Wake { conn } => self.woken.push(conn),
                Output::Forward { shard, parcels } => self.parcels[shard.index()].extend(parcels),
                Output::Registered { conn, .. } => self.joined = Some(Ok(conn)),
                Output::Refused { refusal, .. } => self.joined = Some(Err(refusal)),
                Output::Closed { .. } | Output::Store(_) | Output::ShutDown => {}
            }
        }
        turn
    }
}

impl EventLoop {
    fn new(place: Shard, agents: Vec<Agent>, window: usize, run: Arc<Run>) -> Self {
        let config = hub_config().addressing(Addressing::Names);
        let config = config.build().expect("settings that fit");
        let host = Host::parse("localhost").expect("a host");
        let sessions = Config::new(host, config.max_message_bytes()).auth(Auth::Open);
        let sessions = Arc::new(sessions);
        let outputs = Outputs {
            parcels: place.shards.all().map(|_| Vec::new()).collect(),
            ..Outputs::default()
        };
        let connections = agents.into_iter().map(|agent| Connection {
            session: Session::new(Arc::clone(&sessions), Entry::Fresh, None, Time::ZERO),
            agent,
            is_ready: true,
        });
        let connections: Vec<_> = connections.collect();
        Self {
            id: place.id,
            hub: Hub::new_shard(config, place, Time::ZERO, unix_now()),
            wakeup: None,
            ready: (0..connections.len()).collect(),
            connections,
            places: Vec::new(),
            outputs,
            buffer: vec![0; MAX_READ],
            inputs: Vec::new(),
            batch: WriteBatch::default(),
            window,
            begun: false,
            began: Instant::now(),
            run,
        }
    }

    fn run(&mut self, inbox: &Receiver<Delivery>, senders: &[Sender<Delivery>]) {
        while !self.run.is_over() {
            let now = Time::ZERO + self.began.elapsed();
            if self.ready.is_empty() {
                self.publish();
                if let Ok(delivery) = inbox.recv_timeout(TICK) {
                    self.accept(delivery, now);
                }
            }
            while let Ok(delivery) = inbox.try_recv() {
                self.accept(delivery, now);
            }
            if self.wakeup.is_some_and(|wakeup| wakeup.at <= now) {
                self.wakeup = self.outputs.drain(self.hub.handle_timeout(now)).finish();
            }
            self.begin_or_end();
            self.wake();
            for _ in 0..ROUNDS {
                let Some(place) = self.ready.pop_front() else {
                    break;
                };
                self.round(place, now);
                self.wake();
            }
            for (parcels, sender) in self.outputs.parcels.iter_mut().zip(senders) {
                if !parcels.is_empty() {
                    // Fails when the other has ended: then all do.
                    let _ = sender.send((self.id, core::mem::take(parcels)));
                }
            }
        }
    }

    /// Takes what another shard has sent.
    fn accept(&mut self, (shard, parcels): Delivery, now: Time) {
        let input = Input::Forwarded { shard, parcels };
        let turn = self.hub.handle_input(input, now);
        self.wakeup = self.outputs.drain(turn).finish();
    }

    /// Lets agents send, or lets them send no more.
    fn begin_or_end(&mut self) {
        let running = self.run.is_running();
        if running != self.begun {
            self.begun = running;
            let credit = if running { self.window } else { 0 };
            for (place, connection) in self.connections.iter_mut().enumerate() {
                connection.agent.credit = credit;
                if !core::mem::replace(&mut connection.is_ready, true) {
                    self.ready.push_back(place);
                }
            }
        }
        if running {
            self.publish();
        }
    }

    /// Adds the connections that the hub wakes to those whose turn comes.
    fn wake(&mut self) {
        for conn in self.outputs.woken.drain(..) {
            let place = self.places[conn.index()];
            if !core::mem::replace(&mut self.connections[place].is_ready, true) {
                self.ready.push_back(place);
            }
        }
    }

    fn publish(&self) {
        let agents = self.connections.iter().map(|connection| &connection.agent);
        self.run.publish(self.id.index(), agents);
    }

    /// Reads what an agent writes, and writes what there is for it.
    fn round(&mut self, place: usize, now: Time) {
        let connection = &mut self.connections[place];
        connection.is_ready = false;
        let Connection { session, agent, .. } = connection;
        let (batch, outputs) = (&mut self.batch, &mut self.outputs);
        let wanted = session.wants_read(false).min(self.buffer.len());
        if !self.begun {
            agent.credit = 0;
        }
        let read = agent.read(&mut self.buffer[..wanted]);
        let inputs = &mut self.inputs;
        session.receive(&self.buffer[..read], |input| inputs.push(input));
        while let Some(event) = session.poll_event(now, batch) {
            match event {
                Event::Upgrade(upgrade) => upgrade.answer(Ok(()), now, batch),
                Event::Register(register) => {
                    let turn = self.hub.handle_input(register.input(), now);
                    self.wakeup = outputs.drain(turn).finish();
                    match outputs.joined.take() {
                        Some(Ok(conn)) => {
                            if self.places.len() <= conn.index() {
                                self.places.resize(conn.index() + 1, 0);
                            }
                            self.places[conn.index()] = place;
                            register.registered(conn, batch);
                            self.run.joined.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(Err(refusal)) => register.refused(refusal, now, batch),
                        None => break,
                    }
                }
                // None of them concerns agents that are named, or they end as they are.
                Event::Identified(_) | Event::Health(_) | Event::Nonce(_) | Event::Left(_) => break,
            }
        }
        for input in self.inputs.drain(..) {
            // What it says stays until the outputs are drained below.
            let _ = self.hub.handle_input(input, now);
        }
        if let Some(conn) = session.conn() {
            let transmit = |frame| session.transmit(frame, batch);
            let turn = self.hub.poll_transmit(conn, CREDIT, now, transmit);
            self.wakeup = outputs.drain(turn).finish();
            session.follow(&self.hub);
        }
        let wrote = !batch.is_empty();
        let written = batch.write_with(|slices| {
            slices.iter().for_each(|slice| agent.write(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        written.expect("memory takes everything");
        session.flushed();
        if read > 0 || wrote {
            connection.is_ready = true;
            self.ready.push_back(place);
        }
    }
}
