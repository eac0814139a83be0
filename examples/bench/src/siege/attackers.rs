//! Those who want the relay to have nothing left for others.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use clap::ValueEnum;
use pinch_proto::wire::MessageType;
use pinch_proto::{Address, EnvelopeView, Host, PublicKey};
use serde::Serialize;

use super::forging::{put_block, put_fragment, put_message};
use super::{HOST, Siege, SiegeError};
use crate::frame::{self, Opcode};
use crate::load::clients::{Clients, Manner};
use crate::load::connection::Event;
use crate::load::identity::{Identity, identities};
use crate::load::target::Endpoint;
use crate::load::{LoadError, Tally};

const SECOND: u64 = 1_000_000_000;

const TICK: Duration = Duration::from_millis(5);

/// How many join at the same time, besides those for whom joining is the attack.
const CONCURRENCY: usize = 64;

/// How long those who were closed wait before they come again.
const BACKOFF: u64 = SECOND;

/// Bytes of ciphertext of the largest envelopes.
const LARGE: usize = 64_000;

/// Bytes of ciphertext of those of which seven go into one write.
const MEDIUM: usize = 31_500;

/// Bytes of ciphertext of the smallest.
const SMALL: usize = 700;

/// How many bytes a flood writes at once.
const FLOOD: usize = 64 * 1024;

/// How many envelopes may be sent at once by the default rate limit.
const BURST: usize = 10;

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// 100 senders fill 1,296 recipients that answer no ping, but send something
    Hoarding,
    /// 50 senders write seven envelopes at once, of which the rate limit lets one pass
    Pinning,
    /// 500 agents begin a message, and do not end it
    Beginning,
    /// 200 agents block addresses that nobody has
    Blocking,
    /// 40 senders fill 4 recipients that cut their connections and come back
    Cutting,
    /// 100 senders fill the queues of two agents that are away
    Stuffing,
    /// 4 connections send pongs as fast as they can
    Pongs,
    /// 4 connections send empty fragments as fast as they can
    Fragments,
    /// An agent whose queue is full joins, and cuts, as fast as it can
    Joining,
}

/// What the attackers did and what they were told, by attack.
pub type Deeds = BTreeMap<Attack, Deed>;

/// What came of an attack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Deed {
    /// How many attackers there were.
    pub attackers: usize,
    /// How often one of them joined.
    pub joins: u64,
    /// How many frames or envelopes were sent.
    pub sent: u64,
    /// How many envelopes came.
    pub received: u64,
    /// How many envelopes were rejected.
    pub rejected: u64,
    /// What ended connections.
    pub endings: Tally,
}

/// What an attacker does once it has joined.
#[derive(Clone, Debug)]
enum Conduct {
    /// Sends `count` envelopes of `size` bytes each second, to each of `to` in turn.
    Send {
        to: Vec<Address>,
        size: usize,
        count: usize,
    },
    /// Answers no ping, sends a byte or a block each second, and cuts after a while.
    Hoard {
        blocks: bool,
        cut_after: Option<u64>,
    },
    /// Begins a message: with fragments, or with a part of a frame.
    Begin {
        fragments: bool,
    },
    Block,
    Flood {
        opcode: Opcode,
    },
    /// Cuts as soon as its queue comes.
    Join,
}

/// An attacker.
#[derive(Clone, Debug)]
pub(super) struct Attacker {
    attack: Attack,
    identity: Identity,
    conduct: Conduct,
    /// Nanoseconds from the beginning until it joins.
    begin: u64,
}

/// Who attacks, and whom.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    attackers: Vec<Attacker>,
    /// The honest agent whose queue is stuffed.
    pub(super) victim: Identity,
}

impl Plan {
    pub(super) fn len(&self) -> usize {
        self.attackers.len()
    }
}

/// Draws up who attacks.
pub(super) fn plan(siege: &Siege) -> Result<Plan, SiegeError> {
    let host = Host::parse(HOST).expect("a host");
    let draw = |full: usize| {
        let count = (full * siege.percent).div_ceil(100).max(1);
        identities(count, &host).map_err(LoadError::from)
    };
    let mut attackers = Vec::new();
    let mut add = |attack, agents: Vec<Identity>, begin, conduct: &dyn Fn(usize) -> Conduct| {
        if siege.only.is_empty() || siege.only.contains(&attack) {
            let agents = agents.into_iter().enumerate();
            attackers.extend(agents.map(|(at, identity)| Attacker {
                attack,
                identity,
                conduct: conduct(at),
                begin,
            }));
        }
    };
    let addresses = |agents: &[Identity]| -> Vec<Address> {
        agents.iter().map(|agent| agent.address.clone()).collect()
    };

    let hoarders = draw(1296)?;
    let hoards = addresses(&hoarders);
    let hoard_from = |at: usize| {
        let mut to = hoards.clone();
        to.rotate_left(at * 13 % hoards.len());
        to
    };
    add(Attack::Hoarding, hoarders, 0, &|at| Conduct::Hoard {
        blocks: at % 4 == 0,
        cut_after: None,
    });
    add(Attack::Hoarding, draw(100)?, 2 * SECOND, &|at| {
        Conduct::Send {
            to: hoard_from(at),
            size: LARGE,
            count: 1,
        }
    });
    add(Attack::Pinning, draw(50)?, 2 * SECOND, &|at| {
        Conduct::Send {
            to: hoard_from(at),
            size: MEDIUM,
            count: 7,
        }
    });
    add(Attack::Beginning, draw(500)?, 0, &|at| Conduct::Begin {
        fragments: at % 2 == 0,
    });
    add(Attack::Blocking, draw(200)?, 0, &|_| Conduct::Block);

    let cutters = draw(4)?;
    let cut = addresses(&cutters);
    add(Attack::Cutting, cutters, 0, &|_| Conduct::Hoard {
        blocks: false,
        cut_after: Some(5 * SECOND),
    });
    add(Attack::Cutting, draw(40)?, SECOND, &|_| Conduct::Send {
        to: cut.clone(),
        size: SMALL,
        count: 2,
    });

    let victim = draw(1)?.remove(0);
    let joiner = draw(1)?.remove(0);
    let stuffed = vec![joiner.address.clone(), victim.address.clone()];
    add(Attack::Stuffing, draw(100)?, 0, &|_| Conduct::Send {
        to: stuffed.clone(),
        size: SMALL,
        count: 2,
    });
    let flood = |opcode| move |_| Conduct::Flood { opcode };
    add(Attack::Pongs, draw(4)?, 0, &flood(Opcode::Pong));
    add(Attack::Fragments, draw(4)?, 0, &flood(Opcode::Continuation));
    add(Attack::Joining, vec![joiner], 5 * SECOND, &|_| {
        Conduct::Join
    });
    Ok(Plan { attackers, victim })
}

/// Where an attacker is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Away {
        until: u64,
    },
    /// In the queue of those who want to join.
    Waiting,
    Joining {
        number: usize,
    },
    Joined {
        number: usize,
        since: u64,
        next: u64,
    },
}

pub(super) struct Attackers {
    clients: Clients,
    attackers: Vec<Attacker>,
    places: Vec<Place>,
    /// Which of its targets is next.
    turns: Vec<usize>,
    waiting: VecDeque<usize>,
    joining: usize,
    /// Whose each connection is.
    owners: Vec<usize>,
    deeds: Deeds,
    scratch: Vec<u8>,
    blocked: u64,
}

/// What has happened to a connection.
enum Occurrence {
    Joined,
    Received { rejected: bool },
    Ended(String),
}

impl Attackers {
    pub(super) fn new(endpoint: Endpoint, plan: Plan) -> Result<Self, SiegeError> {
        let clients = Clients::new(endpoint, false)?;
        let now = clients.now();
        let mut deeds = Deeds::new();
        for attacker in &plan.attackers {
            deeds.entry(attacker.attack).or_default().attackers += 1;
        }
        let places = plan.attackers.iter();
        Ok(Self {
            places: places
                .map(|attacker| Place::Away {
                    until: now + attacker.begin,
                })
                .collect(),
            turns: vec![0; plan.attackers.len()],
            attackers: plan.attackers,
            clients,
            waiting: VecDeque::new(),
            joining: 0,
            owners: Vec::new(),
            deeds,
            scratch: Vec::new(),
            blocked: 0,
        })
    }

    /// Attacks until it is `over`.
    pub(super) fn run(mut self, over: &AtomicBool) -> Result<Deeds, SiegeError> {
        while !over.load(Ordering::Acquire) {
            self.join()?;
            self.act();
            self.listen()?;
        }
        Ok(self.deeds)
    }

    fn join(&mut self) -> Result<(), SiegeError> {
        let now = self.clients.now();
        for (at, place) in self.places.iter_mut().enumerate() {
            if matches!(place, Place::Away { until } if *until <= now) {
                *place = Place::Waiting;
                // Those for whom it is the attack do not wait for others.
                if self.attackers[at].attack == Attack::Joining {
                    self.waiting.push_front(at);
                } else {
                    self.waiting.push_back(at);
                }
            }
        }
        while self.joining < CONCURRENCY
            && let Some(at) = self.waiting.pop_front()
        {
            let attacker = &self.attackers[at];
            let manner = match attacker.conduct {
                Conduct::Hoard { .. } => Manner::Mute,
                Conduct::Join => Manner::Brief,
                Conduct::Send { .. }
                | Conduct::Begin { .. }
                | Conduct::Block
                | Conduct::Flood { .. } => Manner::Civil,
            };
            let number = self.clients.join_as(&attacker.identity, manner)?;
            self.owners.push(at);
            self.places[at] = Place::Joining { number };
            self.joining += 1;
        }
        Ok(())
    }

    fn act(&mut self) {
        let now = self.clients.now();
        for at in 0..self.attackers.len() {
            if let Place::Joined {
                number,
                since,
                next,
            } = self.places[at]
                && next <= now
                && self.clients.unsent(number) == 0
            {
                let first = next == since;
                let wait = self.act_as(at, number, since, first);
                if let Place::Joined { next, .. } = &mut self.places[at] {
                    *next = now.saturating_add(wait);
                }
            }
        }
    }

    /// Does what the attacker does, and returns how long it does nothing then.
    fn act_as(&mut self, at: usize, number: usize, since: u64, first: bool) -> u64 {
        let attacker = &self.attackers[at];
        let identity = &attacker.identity;
        let mask = self.clients.mask(number);
        let out = &mut self.scratch;
        out.clear();
        let mut sent = 1;
        let mut wait = SECOND;
        match &attacker.conduct {
            Conduct::Send { to, size, count } => {
                sent = if first { BURST.max(*count) } else { *count };
                let turn = &mut self.turns[at];
                // What goes into one write goes to one recipient.
                let step = usize::from(*size == MEDIUM);
                for index in 0..sent {
                    let to = to[(*turn + index * (1 - step)) % to.len()].as_str();
                    let id = (*turn + index) as u64;
                    put_message(out, (identity, to), id, *size, mask);
                }
                *turn += sent;
            }
            Conduct::Hoard { blocks, cut_after } => {
                if cut_after.is_some_and(|after| self.clients.now() >= since + after) {
                    self.clients.abort(number);
                    self.ended(at, "cut from here", BACKOFF / 5);
                    return 0;
                }
                if *blocks {
                    let blocked = nobody(&mut self.blocked);
                    put_block(out, identity, blocked.as_str(), mask);
                } else {
                    frame::put_masked(out, Opcode::Pong, b"", mask);
                }
            }
            Conduct::Begin { fragments: true } => {
                put_fragment(out, Opcode::Binary, &[3; 60_000], mask);
                put_fragment(out, Opcode::Continuation, &[3; 60_000], mask);
                wait = u64::MAX;
            }
            Conduct::Begin { fragments: false } => {
                frame::put_masked(out, Opcode::Binary, &[3; 131_000], mask);
                out.truncate(out.len() - 1000);
                wait = u64::MAX;
            }
            Conduct::Block => {
                sent = if first { BURST } else { 1 };
                for _ in 0..sent {
                    let blocked = nobody(&mut self.blocked);
                    put_block(out, identity, blocked.as_str(), mask);
                }
            }
            Conduct::Flood { opcode } => {
                if first && *opcode == Opcode::Continuation {
                    put_fragment(out, Opcode::Binary, b"", mask);
                }
                sent = 0;
                while out.len() < FLOOD {
                    if *opcode == Opcode::Continuation {
                        put_fragment(out, *opcode, b"", mask);
                    } else {
                        frame::put_masked(out, *opcode, b"", mask);
                    }
                    sent += 1;
                }
                wait = 0;
            }
            Conduct::Join => {
                // Its queue is empty, or is not read.
                if !first {
                    self.clients.abort(number);
                    self.ended(at, "cut from here", 0);
                    return 0;
                }
                return 2 * SECOND;
            }
        }
        self.clients.send(number, out);
        self.deed(at).sent += sent as u64;
        wait
    }

    fn listen(&mut self) -> Result<(), SiegeError> {
        let mut occurrences = Vec::new();
        self.clients.poll(TICK, |number, event| {
            let occurrence = match event {
                Event::Joined => Occurrence::Joined,
                Event::Received { envelope, .. } => Occurrence::Received {
                    rejected: is_rejection(envelope),
                },
                Event::Drained => return,
                Event::Ended(ending) => Occurrence::Ended(ending.to_string()),
            };
            occurrences.push((number, occurrence));
        })?;
        for (number, occurrence) in occurrences {
            let at = self.owners[number];
            match occurrence {
                Occurrence::Joined => self.joined(at, number),
                Occurrence::Received { rejected } => {
                    let deed = self.deed(at);
                    deed.received += u64::from(!rejected);
                    deed.rejected += u64::from(rejected);
                    // Its queue has been read, and is on its way.
                    if matches!(self.attackers[at].conduct, Conduct::Join)
                        && self.place_of(at) == Some(number)
                    {
                        self.clients.abort(number);
                        self.ended(at, "cut from here", 0);
                    }
                }
                Occurrence::Ended(ending) => {
                    let is_joiner = self.attackers[at].attack == Attack::Joining;
                    // It can have been cut from here before that was heard.
                    if self.place_of(at) == Some(number) {
                        self.ended(at, &ending, if is_joiner { 0 } else { BACKOFF });
                    }
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, at: usize) -> Option<usize> {
        match self.places[at] {
            Place::Joining { number } | Place::Joined { number, .. } => Some(number),
            Place::Away { .. } | Place::Waiting => None,
        }
    }

    fn joined(&mut self, at: usize, number: usize) {
        if self.place_of(at) != Some(number) {
            return;
        }
        self.deed(at).joins += 1;
        self.joining -= 1;
        let now = self.clients.now();
        self.places[at] = Place::Joined {
            number,
            since: now,
            next: now,
        };
    }

    fn ended(&mut self, at: usize, ending: &str, backoff: u64) {
        if matches!(self.places[at], Place::Joining { .. }) {
            self.joining -= 1;
        }
        self.places[at] = Place::Away {
            until: self.clients.now() + backoff,
        };
        self.deed(at).endings.add(&without_numbers(ending));
    }

    fn deed(&mut self, at: usize) -> &mut Deed {
        self.deeds.entry(self.attackers[at].attack).or_default()
    }
}

/// What is said of times and sizes differs each time.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        if !char.is_ascii_digit() {
            out.push(char);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

/// An address that looks like one, and is nobody's.
fn nobody(count: &mut u64) -> Address {
    *count += 1;
    let mut key = [9; PublicKey::LEN];
    key[..8].copy_from_slice(&count.to_be_bytes());
    let host = Host::parse(HOST).expect("a host");
    Address::from_public_key(&PublicKey::from_bytes(key), &host)
}

fn is_rejection(envelope: &[u8]) -> bool {
    let view = EnvelopeView::parse(envelope).ok();
    let kind = view.and_then(|view| view.message_type());
    matches!(
        kind,
        Some(MessageType::QueueFull | MessageType::RateLimited)
    )
}
