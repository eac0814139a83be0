//! Pongs, and the answers to close frames: they go when it is known what became of what came before.

use bytes::Bytes;
use pinch_proto::hub::{CloseCause, ConnId, ShardId};
use pinch_proto::queue::Ticket;
use pinch_proto::{Close, Frame};

use super::Model;
use super::alarms::Kind;
use super::connection::Phase;

/// More pongs than so many do not wait: the newest are kept.
const MAX_PONGS: usize = 128;

/// What a reply may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The store's answer.
    Answer(Ticket),
    /// The verdict of the shard with this number about an item.
    Verdict(ShardId, u64),
}

/// A reply that waits.
#[derive(Clone, Debug)]
pub(super) struct Held {
    reply: Frame,
    /// What has to be answered first.
    waits_for: Vec<Awaited>,
}

impl Model {
    /// A ping is a sign of life, and is answered.
    pub(super) fn pinged(&mut self, conn: ConnId, payload: Bytes) {
        if self.is_open(conn) && self.pays_for_control(conn, 1) {
            self.alive(conn);
            self.reply(conn, Frame::Pong(payload));
        }
    }

    /// The peer says goodbye; if it is the first to do so, it is answered.
    pub(super) fn peer_closed(&mut self, conn: ConnId, close: Option<Close>) {
        if self.is_open(conn) {
            self.close(conn, CloseCause::Peer);
            self.reply(conn, Frame::Close(close.unwrap_or(Close::NO_STATUS)));
        }
    }

    fn reply(&mut self, conn: ConnId, reply: Frame) {
        let mut waits_for = self.unsettled(conn);
        let now = self.now;
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        waits_for.retain(|ticket| !connection.given_up.contains(ticket));
        if waits_for.is_empty() {
            return self.send_replies(conn, vec![reply]);
        }
        let is_pong = matches!(reply, Frame::Pong(_));
        if is_pong && connection.held.len() >= MAX_PONGS {
            connection.held.pop();
        }
        connection.held.push(Held { reply, waits_for });
        if !self.alarms.is_set(Kind::Reply, conn) {
            self.alarms.set(Kind::Reply, conn, now);
        }
    }

    /// Something of a connection is answered, or the answer is too late.
    pub(super) fn settle(&mut self, conn: ConnId, answered: Awaited) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        connection.given_up.retain(|given_up| *given_up != answered);
        for held in &mut connection.held {
            held.waits_for.retain(|awaited| *awaited != answered);
        }
        let waits = |held: &Held| !held.waits_for.is_empty();
        let end = connection.held.iter().position(waits);
        let end = end.unwrap_or(connection.held.len());
        let replies = connection
            .held
            .drain(..end)
            .map(|held| held.reply)
            .collect();
        self.send_replies(conn, replies);
    }

    /// The replies of a connection have waited for long enough.
    pub(super) fn give_up_settling(&mut self, conn: ConnId) {
        let unsettled = self.unsettled(conn);
        if let Some(connection) = self.get_mut(conn) {
            connection.given_up = unsettled;
            let held = core::mem::take(&mut connection.held).into_iter();
            let replies = held.map(|held| held.reply).collect();
            self.send_replies(conn, replies);
            self.stop_waiting(conn);
        }
    }

    /// A close frame waits for nothing any more.
    pub(super) fn stop_waiting(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if let Phase::Closing { waits, .. } = &mut connection.phase
            && core::mem::take(waits)
        {
            connection.held.clear();
            self.alarms.clear(Kind::Reply, conn);
            self.alarms.set(Kind::Close, conn, now);
            self.wake(conn);
        }
    }

    fn send_replies(&mut self, conn: ConnId, replies: Vec<Frame>) {
        let now = self.now;
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if replies.is_empty() {
            return;
        }
        let mut says_goodbye = false;
        for reply in replies {
            if let (Frame::Close(_), Phase::Closing { answered, .. }) =
                (&reply, &mut connection.phase)
            {
                (*answered, says_goodbye) = (true, true);
            }
            let is_pong = |frame: &Frame| matches!(frame, Frame::Pong(_));
            let pongs = connection.control.iter().filter(|frame| is_pong(frame));
            if is_pong(&reply)
                && pongs.count() >= MAX_PONGS
                && let Some(last) = connection.control.iter().rposition(is_pong)
            {
                connection.control.remove(last);
            }
            connection.control.push(reply);
        }
        if connection.held.is_empty() && !connection.waits_to_close() {
            self.alarms.clear(Kind::Reply, conn);
        } else {
            // The next has its time from now on.
            self.alarms.set(Kind::Reply, conn, now);
        }
        if says_goodbye {
            // It has its time from now on.
            self.alarms.set(Kind::Close, conn, now);
        }
        self.wake(conn);
    }
}
