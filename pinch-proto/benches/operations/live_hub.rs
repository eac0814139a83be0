//! A hub with many live connections, and a driver that says for them what a real one says.

use core::hint::black_box;
use core::time::Duration;

use bytes::{Bytes, BytesMut};
use pinch_proto::hub::{Addressing, Admission, Config, ConnId, Hub, Input, JoinOptions, Output};
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload};
use pinch_proto::{Address, Frame, Host, Time, UnixMillis};

use super::{FEW, Stage, Touch};

/// How much a driver takes from the hub at once, in bytes.
const BATCH: usize = 64 << 10;

/// The gap between two ack probes, by default.
pub(crate) const ACK_PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Longer than anything that is measured: what is not about heartbeats has none.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The defaults, without a rate limit and without heartbeats.
pub(crate) fn config() -> Config {
    let host = Host::parse("relay.example.com").expect("a host");
    Config::new(host)
        .addressing(Addressing::Names)
        .rate_limit(None)
        .join_limit(None)
        .heartbeat_interval(NEVER)
}

/// The addresses of all agents. They are as long as those of keys.
#[derive(Debug)]
pub(crate) struct Addresses(Vec<Address>);

impl Addresses {
    pub(crate) fn new(count: usize) -> Self {
        let address = |index| {
            let text = format!("pinch:{index:0>50}@relay.example.com");
            Address::parse(&text).expect("an address")
        };
        Self((0..count).map(address).collect())
    }

    pub(crate) fn of(&self, agent: usize) -> Address {
        self.0[agent].clone()
    }

    /// A message between two agents, as a driver has it: a part of what was read from a socket.
    pub(crate) fn message(&self, from: usize, to: usize) -> Bytes {
        self.message_of(from, to, 256)
    }

    /// The same with `size` bytes of ciphertext.
    pub(crate) fn message_of(&self, from: usize, to: usize, size: usize) -> Bytes {
        let payload = Payload::Encrypted(EncryptedPayload {
            ciphertext: vec![7; size].into(),
            ..EncryptedPayload::default()
        });
        self.envelope(from, to, MessageType::Message, payload)
    }

    pub(crate) fn envelope(
        &self,
        from: usize,
        to: usize,
        message_type: MessageType,
        payload: Payload,
    ) -> Bytes {
        let envelope = Envelope {
            version: 1,
            from_address: self.0[from].as_str().into(),
            to_address: self.0[to].as_str().into(),
            r#type: message_type.into(),
            message_id: vec![1; 16].into(),
            timestamp: 1_700_000_000_000,
            payload: Some(payload),
        };
        as_read(&envelope)
    }
}

/// The bytes of `envelope`, cut out of a buffer that is shared: cloning them allocates nothing.
pub(crate) fn as_read(envelope: &Envelope) -> Bytes {
    BytesMut::from(&envelope.to_bytes()[..]).split().freeze()
}

/// Agents in a fixed pseudo-random order, without end.
#[derive(Debug)]
pub(crate) struct Order {
    agents: Vec<usize>,
    at: usize,
}

impl Order {
    pub(crate) fn new(stage: Stage) -> Self {
        let mut agents: Vec<_> = (0..stage.live).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut agents);
        match stage.touch {
            Touch::All => {}
            // As many pairs.
            Touch::Few => agents.truncate(2 * FEW as usize),
        }
        Self { agents, at: 0 }
    }

    pub(crate) fn next(&mut self) -> usize {
        let agent = self.agents[self.at];
        self.at = (self.at + 1) % self.agents.len();
        agent
    }
}

/// A hub and its driver.
#[derive(Debug)]
pub(crate) struct LiveHub {
    pub(crate) hub: Hub,
    pub(crate) now: Time,
    conns: Vec<ConnId>,
    /// Who was registered last.
    registered: Option<ConnId>,
    /// Who was woken and has not been served.
    woken: Vec<ConnId>,
    /// Answers of peers to their pings that were not handed in yet.
    pongs: Vec<Input>,
}

impl LiveHub {
    /// Without connections, with room in its own books for `count`.
    pub(crate) fn new(config: Config, count: usize) -> Self {
        let config = config.build().expect("settings that fit");
        Self {
            hub: Hub::new(config, [7; 16], Time::ZERO, UnixMillis(1_700_000_000_000)),
            now: Time::ZERO,
            conns: Vec::with_capacity(count),
            registered: None,
            woken: Vec::with_capacity(count),
            pongs: Vec::with_capacity(count),
        }
    }

    /// With everybody of `addresses` connected.
    pub(crate) fn with_all(config: Config, addresses: &Addresses) -> Self {
        let count = addresses.0.len();
        let mut hub = Self::new(config, count);
        hub.join_all(addresses);
        hub
    }

    pub(crate) fn join_all(&mut self, addresses: &Addresses) {
        for address in &addresses.0 {
            let conn = self.join(address.clone());
            self.conns.push(conn);
        }
    }

    pub(crate) fn conn(&self, agent: usize) -> ConnId {
        self.conns[agent]
    }

    /// Hands one input in and takes all outputs.
    pub(crate) fn hand_in(&mut self, input: Input) {
        let mut turn = self.hub.handle_input(input, self.now);
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Wake { conn } => self.woken.push(conn),
                Output::Registered { conn, .. } => self.registered = Some(conn),
                Output::Refused { .. }
                | Output::Closed { .. }
                | Output::Store(_)
                | Output::Forward { .. }
                | Output::ShutDown => {}
            }
        }
        black_box(turn.finish());
    }

    /// Lets `time` go by, and does what is due then.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut turn = self.hub.handle_timeout(self.now);
        while let Some(output) = turn.poll_output() {
            if let Output::Wake { conn } = output {
                self.woken.push(conn);
            }
        }
        black_box(turn.finish());
    }

    /// The socket of `conn` can take bytes. Returns how many there were.
    pub(crate) fn write(&mut self, conn: ConnId) -> usize {
        let (mut transmitted, pongs) = (0, &mut self.pongs);
        let mut turn = self.hub.poll_transmit(conn, BATCH, self.now, |frame| {
            transmitted += frame.len().max(1);
            if let Frame::Ping(payload) = frame {
                pongs.push(Input::Pong { conn, payload });
            } else {
                black_box(&frame);
            }
        });
        while let Some(output) = turn.poll_output() {
            if let Output::Wake { conn } = output {
                self.woken.push(conn);
            }
        }
        black_box(turn.finish());
        transmitted
    }

    /// What a task does once it has `read` something, or was woken: rounds, until the hub has less to
    /// write than the socket takes.
    pub(crate) fn rounds(&mut self, conn: ConnId, read: Option<Input>) {
        if let Some(input) = read {
            self.hand_in(input);
        }
        while self.write(conn) >= BATCH {}
    }

    /// Lets the tasks run that were woken, and their peers answer pings. How many ran.
    pub(crate) fn serve_woken(&mut self) -> usize {
        let mut served = 0;
        while let Some(conn) = self.woken.pop() {
            served += 1;
            self.serve(conn);
        }
        served
    }

    fn serve(&mut self, conn: ConnId) {
        self.rounds(conn, None);
        while let Some(pong) = self.pongs.pop() {
            self.rounds(conn, Some(pong));
        }
    }

    /// Lets the peers that got a ping answer it, and their tasks do nothing else.
    pub(crate) fn take_pongs(&mut self) {
        while let Some(pong) = self.pongs.pop() {
            self.hand_in(pong);
        }
    }

    /// Forgets who was woken: somebody else looks after them.
    pub(crate) fn forget_woken(&mut self) {
        self.woken.clear();
    }

    /// Lets ack probes follow what is in flight, and be answered.
    pub(crate) fn confirm_all(&mut self) {
        if self.hub.stats().in_flight > 0 {
            self.take_pongs();
            self.pass(ACK_PROBE_INTERVAL);
            self.serve_woken();
            assert_eq!(self.hub.stats().in_flight, 0, "all are confirmed");
        }
    }

    pub(crate) fn register(&mut self, address: Address, admission: Admission) -> ConnId {
        self.hand_in(Input::Register {
            address,
            admission,
            options: JoinOptions::default(),
        });
        self.registered.take().expect("it is admitted")
    }

    /// Registers an agent, which hears of it and answers its first ping.
    pub(crate) fn join(&mut self, address: Address) -> ConnId {
        let conn = self.register(address, Admission::Proven);
        self.serve(conn);
        conn
    }

    /// Ends the connection of `agent`.
    pub(crate) fn leave(&mut self, agent: usize) {
        let conn = self.conn(agent);
        self.hand_in(Input::Closed { conn, clean: false });
    }

    /// Notes that `agent` has a new connection.
    pub(crate) fn returned(&mut self, agent: usize, conn: ConnId) {
        self.conns[agent] = conn;
    }
}
