//! What an outsider knows of each message: who got it, who confirmed it, who was told.
//!
//! Neither the hub nor the model is asked what became of a message. What counts is what was said to
//! sockets and to the store, and what came back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pinch_proto::hub::{
    AckOnClose, ConnId, Delivery, Hub, HubStats, Input, Item, Output, Parcel, ShardId,
};
use pinch_proto::queue::{MemoryQueue, Operation};
use pinch_proto::{Address, EnvelopeView, Frame};

use super::cast::{Agent, To};
use super::message::number_of;
use super::settings::{Queue, Settings};
use super::store::{MADE_UP, Shelf};
use super::turn::{Call, appended};

/// What is known of one message.
#[derive(Debug, Default)]
struct Known {
    bytes: Bytes,
    from: Option<Agent>,
    to: String,
    accepted: bool,
    /// It came with others, of which some were accepted.
    unclear: bool,
    /// How often it was given to a socket.
    given: usize,
    confirmed: bool,
    /// So by a pong while its connection was open: the relay cannot have overlooked it.
    acknowledged: bool,
    /// How often its sender heard that it is lost.
    told: usize,
    /// The store did not keep it, or may not have, or the relay was gone with it.
    excused: bool,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Heard {
    /// The messages that it was given, each with the first ping behind it.
    given: Vec<(u64, Option<u64>)>,
    /// Those of them that it has confirmed.
    confirmed: Vec<u64>,
    last_ping: u64,
    hung_up: bool,
    /// It closed before the relay did, and how it ends its stream may acknowledge everything.
    acks_by_closing: bool,
    /// A browser, or a client that deduplicates: only its pongs acknowledge.
    only_pongs: bool,
}

/// What is known of everything.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: Vec<Known>,
    heard: BTreeMap<(ShardId, ConnId), Heard>,
    /// The shard to which something happens.
    pub(super) at: ShardId,
    /// Several shards take part: then envelopes of different senders may overtake each other.
    pub(super) has_shards: bool,
    /// The messages that are being handed in.
    current: Vec<usize>,
    /// Only pongs acknowledge, whoever closes.
    only_pongs: bool,
    /// The connection that registers is one of which only pongs acknowledge.
    registers_only_pongs: bool,
    /// The store may not have forgotten something that was acknowledged.
    forgot_badly: bool,
}

impl Ledger {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            only_pongs: settings.ack_on_close == AckOnClose::Never,
            has_shards: settings.shards > 1,
            ..Self::default()
        }
    }

    /// The number of the message that is sent next.
    pub(super) fn next_number(&self) -> u64 {
        self.known.len() as u64
    }

    pub(super) fn sends(&mut self, bytes: &Bytes, from: Agent, to: To) {
        self.known.push(Known {
            from: Some(from),
            bytes: bytes.clone(),
            to: to.text(from),
            ..Known::default()
        });
    }

    /// What a peer confirms, before the hub hears it: what one says that has ended does not count.
    pub(super) fn before(&mut self, call: &Call, hub: &Hub) {
        self.current.clear();
        let input = match call {
            Call::Input(input) => Some(input),
            Call::Transmit { .. } | Call::Timeout => None,
        };
        match input {
            Some(Input::Register { options, .. }) => {
                let only_pongs = options.deduplicates || options.browser || self.only_pongs;
                self.registers_only_pongs = only_pongs;
            }
            Some(Input::PeerClosed { conn, .. }) => {
                if let Some(heard) = self.heard.get_mut(&(self.at, *conn)) {
                    let is_first = hub.is_open(*conn) && !heard.hung_up;
                    heard.acks_by_closing |= is_first && !heard.only_pongs;
                }
            }
            Some(Input::Closed { conn, clean: true }) if hub.holds(*conn) => {
                if let Some(heard) = self.heard.get_mut(&(self.at, *conn))
                    && heard.acks_by_closing
                {
                    let given = core::mem::take(&mut heard.given);
                    let numbers = given.into_iter().map(|(number, _)| number).collect();
                    self.confirm(*conn, numbers);
                }
            }
            Some(_) | None => {}
        }
        if let Some(Input::Received { .. }) = input {
            self.current.extend(self.known.len().checked_sub(1));
        } else if let Some(Input::Forwarded { parcels, .. }) = input {
            self.current = parcels.iter().filter_map(number_in).collect();
        } else if let Some(Input::Pong { conn, payload }) = input
            && let Ok(number) = payload.as_ref().try_into().map(u64::from_be_bytes)
            && let Some(heard) = self.heard.get_mut(&(self.at, *conn))
            && number <= heard.last_ping
            && hub.holds(*conn)
        {
            let is_before = |ping: Option<u64>| ping.is_some_and(|ping| ping <= number);
            let confirmed = heard.given.iter().filter(|(_, ping)| is_before(*ping));
            let confirmed: Vec<_> = confirmed.map(|(number, _)| *number).collect();
            heard.given.retain(|(_, ping)| !is_before(*ping));
            for number in &confirmed {
                if let Some(known) = self.get_mut(*number) {
                    known.acknowledged |= hub.is_open(*conn);
                }
            }
            self.confirm(*conn, confirmed);
        }
    }

    fn confirm(&mut self, conn: ConnId, numbers: Vec<u64>) {
        for number in &numbers {
            if let Some(known) = self.get_mut(*number) {
                known.confirmed = true;
            }
        }
        if let Some(heard) = self.heard.get_mut(&(self.at, conn)) {
            heard.confirmed.extend(numbers);
        }
    }

    /// What has become of the message that was handed in, and of those that the store still has.
    pub(super) fn after(&mut self, before: &HubStats, after: &HubStats, shelf: &Shelf) {
        let accepted = after.accepted - before.accepted;
        let are_all = accepted == self.current.len() as u64;
        for current in &self.current {
            let known = &mut self.known[*current];
            known.accepted |= are_all;
            known.unclear |= !are_all && accepted > 0;
        }
        if after.store_failures > before.store_failures {
            // Something may be overdue; whatever is not answered may be it.
            for (_, request) in &shelf.asked {
                self.fails(&request.operation);
            }
            if !shelf.answers.is_empty() || !shelf.lost.is_empty() {
                self.excuse_all();
            }
        }
    }

    /// The store has not done this.
    pub(super) fn fails(&mut self, operation: &Operation) {
        let Some(message) = appended(operation) else {
            self.forgot_badly = true;
            return;
        };
        if let Some(known) = self.of(message) {
            known.excused = true;
        }
    }

    /// The store has given this up for another; its sender is told if it reads what it is told.
    pub(super) fn gives_way(&mut self, message: &Bytes) {
        if let Some(known) = self.of(message) {
            known.excused = true;
        }
    }

    fn excuse_all(&mut self) {
        self.forgot_badly = true;
        for known in &mut self.known {
            known.excused = true;
        }
    }

    /// The relay is gone, with what was not in its store.
    pub(super) fn restart(&mut self, queue: &MemoryQueue) {
        self.heard.clear();
        self.forgot_badly = true;
        for known in &mut self.known {
            let is_stored = queue
                .entries(&known.to)
                .any(|entry| entry.message == known.bytes);
            known.excused |= !is_stored;
        }
    }

    pub(super) fn observe(&mut self, output: &Output) -> Result<(), String> {
        match output {
            Output::Registered { conn, .. } => {
                let only_pongs = self.registers_only_pongs;
                let heard = Heard {
                    only_pongs,
                    ..Heard::default()
                };
                self.heard.insert((self.at, *conn), heard);
                Ok(())
            }
            Output::Refused { .. }
            | Output::Wake { .. }
            | Output::Closed { .. }
            | Output::Store(_)
            | Output::Forward { .. }
            | Output::ShutDown => Ok(()),
        }
    }

    pub(super) fn transmitted(&mut self, conn: ConnId, frame: &Frame) -> Result<(), String> {
        let heard = self.heard.entry((self.at, conn)).or_default();
        if heard.hung_up {
            return Err("something follows a close frame".into());
        }
        match frame {
            Frame::Close(_) => heard.hung_up = true,
            Frame::Ping(payload) => {
                let number = payload.as_ref().try_into().map(u64::from_be_bytes);
                let number = number.map_err(|_| "a ping is no number")?;
                heard.last_ping = number;
                for (_, ping) in &mut heard.given {
                    ping.get_or_insert(number);
                }
            }
            Frame::Pong(_) => {}
            Frame::Message(message) => return self.gets(conn, message),
        }
        Ok(())
    }

    fn gets(&mut self, conn: ConnId, message: &Bytes) -> Result<(), String> {
        if message == MADE_UP {
            return Ok(());
        }
        let view = EnvelopeView::parse(message).map_err(|error| error.to_string())?;
        let Some(number) = number_of(&view) else {
            return Ok(());
        };
        let is_ours = view.from_address().is_empty();
        let forgot_badly = self.forgot_badly;
        let Some(known) = self.get_mut(number) else {
            return Err(format!(
                "#{number} is given to somebody, and was never sent"
            ));
        };
        if is_ours {
            known.told += 1;
            return Ok(());
        }
        known.given += 1;
        if known.acknowledged && !forgot_badly {
            return Err(format!("#{number} was acknowledged, and comes again"));
        }
        if known.bytes != message {
            return Err(format!("#{number} has changed on its way"));
        }
        let to = Address::parse(view.to_address());
        if to.is_ok_and(|to| known.to != to.as_str()) {
            return Err(format!("#{number} goes astray"));
        }
        let (from, has_shards) = (known.from, self.has_shards);
        let known = &self.known;
        let is_in_order = |other: &u64| {
            let at = usize::try_from(*other).expect("few messages");
            !has_shards || known[at].from == from
        };
        let heard = self.heard.entry((self.at, conn)).or_default();
        let given = heard.given.iter().map(|(number, _)| *number);
        let before = given.chain(heard.confirmed.iter().copied());
        let last = before.filter(is_in_order).max();
        if last.is_some_and(|last| last >= number) {
            return Err(format!("#{number} comes after {last:?}, or twice"));
        }
        heard.given.push((number, None));
        Ok(())
    }

    /// The messages that a connection was given, confirmed or not.
    pub(super) fn given_to(&self, conn: ConnId) -> BTreeSet<&Bytes> {
        let heard = self.heard.get(&(self.at, conn)).into_iter();
        let numbers = heard.flat_map(|heard| {
            let given = heard.given.iter().map(|(number, _)| *number);
            given.chain(heard.confirmed.iter().copied())
        });
        let known = numbers.filter_map(|number| self.known.get(usize::try_from(number).ok()?));
        known.map(|known| &known.bytes).collect()
    }

    /// Nothing was lost in silence.
    pub(super) fn end(&self, settings: &Settings, queue: &MemoryQueue) -> Result<(), String> {
        let keeps = settings
            .queue
            .is_some_and(|queue| queue.ttl == Queue::TTL[0]);
        for (number, known) in self.known.iter().enumerate() {
            if !known.accepted && !known.unclear && known.given > 0 {
                return Err(format!("#{number} was not accepted, and arrived"));
            }
            let is_stored = || {
                queue
                    .entries(&known.to)
                    .any(|entry| entry.message == known.bytes)
            };
            let is_found = known.confirmed || known.told > 0 || known.excused || is_stored();
            let may_be_cut_off = settings.delivery == Delivery::AtMostOnce && known.given > 0;
            if known.accepted && keeps && !is_found && !may_be_cut_off {
                return Err(format!("#{number} was accepted, and is lost"));
            }
        }
        Ok(())
    }

    fn of(&mut self, message: &Bytes) -> Option<&mut Known> {
        let number = EnvelopeView::parse(message)
            .ok()
            .and_then(|view| number_of(&view))?;
        self.get_mut(number)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Known> {
        self.known.get_mut(usize::try_from(number).ok()?)
    }
}

/// The number of the message that a parcel carries.
fn number_in(parcel: &Parcel) -> Option<usize> {
    let Parcel::Item {
        item: Item::Envelope { message, .. },
        ..
    } = parcel
    else {
        return None;
    };
    let number = number_of(&message.view().ok()?)?;
    usize::try_from(number).ok()
}
