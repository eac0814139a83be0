//! What leaves for a socket, and how the socket takes it.

use super::connection::{Connection, Phase, Ping, Socket};
use super::core::Core;
use super::deadlines::Timer;
use super::io::ConnId;
use super::{Delivery, Hub};
use crate::Frame;

impl Hub {
    /// The socket has taken everything: hands out what waits for the connection.
    pub(super) fn transmit(&mut self, conn: ConnId, credit: usize, transmit: impl FnMut(Frame)) {
        let Some(connection) = self.connections.get_mut(conn) else {
            self.core.stats.late += 1;
            return;
        };
        if connection.socket == Socket::Stalled {
            connection.socket = Socket::Blocked;
        }
        if connection.is_suspect() {
            self.close_if_dead(conn);
        }
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        self.core.on_drained(connection);
        self.core.transmit(connection, credit, transmit);
        if connection.backlog.is_some() {
            self.read_on(conn);
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            self.core.set_paused(connection);
        }
    }

    /// The socket has not taken everything; if it moves, the stall timeout begins anew.
    pub(super) fn blocked(&mut self, conn: ConnId, progressed: bool) {
        let Some(connection) = self.connections.get_mut(conn) else {
            self.core.stats.late += 1;
            return;
        };
        self.core.on_blocked(connection, progressed);
        self.close_if_dead(conn);
        if let Some(connection) = self.connections.get_mut(conn) {
            self.core.set_paused(connection);
        }
    }
}

impl Core {
    /// The socket has not taken all that was transmitted last. The ping among it has not left, and its
    /// pong is not late; the stall timeout begins.
    fn on_blocked(&mut self, connection: &mut Connection, progressed: bool) {
        let was_blocked = connection.is_blocked();
        // Progress of a socket that was not blocked is none.
        if was_blocked != progressed {
            return;
        }
        connection.socket = Socket::Blocked;
        if connection.is_closing() {
            return;
        }
        let slot = connection.id.slot();
        self.arm(Timer::Stall, slot);
        if !was_blocked && connection.ping == Ping::Sent {
            connection.ping = Ping::Unsent;
            self.deadlines.disarm(Timer::Pong, slot);
            self.deadlines.disarm(Timer::Join, slot);
        }
    }

    /// The socket has taken what was transmitted.
    fn on_drained(&mut self, connection: &mut Connection) {
        if connection.ping == Ping::Sent {
            connection.ping = Ping::Awaited;
        }
        if connection.is_blocked() {
            connection.socket = Socket::Awake;
            self.deadlines.disarm(Timer::Stall, connection.id.slot());
            if connection.ping == Ping::Unsent && !connection.is_closing() {
                connection.ping = Ping::Awaited;
                self.expect_pong(connection);
            }
        }
    }

    /// Starts the time in which a peer has to answer a ping, and to join.
    fn expect_pong(&mut self, connection: &Connection) {
        let slot = connection.id.slot();
        self.arm(Timer::Pong, slot);
        if matches!(connection.phase, Phase::Joining { .. }) {
            self.arm(Timer::Join, slot);
        }
    }

    /// Transmits what there is. It counts as taken by the socket, unless the driver says otherwise.
    fn transmit(
        &mut self,
        connection: &mut Connection,
        credit: usize,
        mut transmit: impl FnMut(Frame),
    ) {
        let window = self.window;
        if !connection.has_frame(window) {
            connection.socket = Socket::Asleep;
            return;
        }
        let slot = connection.id.slot();
        let queued = (
            connection.outbox.waiting(),
            connection.outbox.waiting_bytes(),
        );
        let kept = connection.outbox.in_flight_bytes();
        let last_probe = connection.outbox.last_probe();
        let mut room = credit;
        let mut has_written = false;
        // The ack probe behind them goes with them.
        while room > 0 || (has_written && connection.probe_due) {
            let Some(frame) = connection.pop_frame(
                &mut self.next_ping,
                window,
                &mut self.pool,
                &mut self.shares,
            ) else {
                // That was all.
                if has_written && self.wants_probe(connection, last_probe) {
                    connection.probe_due = true;
                    continue;
                }
                break;
            };
            room = room.saturating_sub(frame.len().max(1));
            self.stats.pings += u64::from(matches!(frame, Frame::Ping(_)));
            has_written = true;
            transmit(frame);
            connection.probe_due |= connection.needs_probe(window)
                || (room == 0 && self.wants_probe(connection, last_probe));
        }
        connection.socket = if room > 0 {
            Socket::Asleep
        } else {
            Socket::Awake
        };
        if !connection.is_closing() {
            if connection.outbox.last_probe() != last_probe {
                self.arm(Timer::AckProbe, slot);
                self.arm_if_idle(Timer::Ack, slot);
            }
            if connection.ping == Ping::Sent {
                self.expect_pong(connection);
            }
        }
        let transmitted = (queued.0 - connection.outbox.waiting()) as u64;
        self.stats.queued -= transmitted;
        self.stats.queued_bytes -= (queued.1 - connection.outbox.waiting_bytes()) as u64;
        match window.delivery {
            Delivery::AtMostOnce => self.stats.delivered += transmitted,
            Delivery::AtLeastOnce => {
                self.stats.in_flight += transmitted;
                self.stats.in_flight_bytes += (connection.outbox.in_flight_bytes() - kept) as u64;
            }
        }
    }

    /// Whether an ack probe is to follow what was transmitted, where `last` was the last one before it.
    fn wants_probe(&self, connection: &Connection, last: Option<u64>) -> bool {
        let slot = connection.id.slot();
        let paced = connection.outbox.last_probe() != last
            || self.deadlines.is_armed(Timer::AckProbe, slot);
        connection.wants_probe(paced)
    }

    /// Decides whether the driver is to read from a connection before it comes again.
    fn set_paused(&mut self, connection: &mut Connection) {
        let was_paused = connection.paused;
        connection.paused = connection.is_congested(&self.outbox_limits);
        if was_paused && !connection.paused && !connection.is_closing() {
            self.resume(connection);
        }
    }

    /// The driver reads from a connection again. Nothing was read meanwhile, so the pong, and the ack,
    /// have their time from now on.
    fn resume(&mut self, connection: &mut Connection) {
        if connection.ping == Ping::Overdue {
            connection.ping = Ping::Awaited;
            self.arm(Timer::Pong, connection.id.slot());
        }
        if core::mem::take(&mut connection.ack_overdue) {
            self.expect_ack(connection);
        }
    }
}
