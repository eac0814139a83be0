//! What leaves for a socket, and how the socket takes it.

use super::Hub;
use super::connection::{Connection, Phase, Ping, Socket};
use super::core::Core;
use super::io::ConnId;
use crate::Frame;

impl Hub {
    /// The socket has taken everything: hands out what waits for the connection.
    pub(super) fn transmit(&mut self, conn: ConnId, credit: usize, transmit: impl FnMut(Frame)) {
        let Some(connection) = self.connections.get_mut(conn) else {
            self.core.stats.late += 1;
            return;
        };
        if connection.socket == Socket::Stalled {
            connection.socket = Socket::Writing;
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
        if progressed && connection.is_writing() && !connection.is_closing() {
            connection.socket = Socket::Writing;
            let now = self.core.attended();
            self.core.deadlines.stall.arm(conn.slot(), now);
        }
        self.close_if_dead(conn);
        if let Some(connection) = self.connections.get_mut(conn) {
            self.core.set_paused(connection);
        }
    }
}

impl Core {
    /// The socket has taken what was transmitted.
    fn on_drained(&mut self, connection: &mut Connection) {
        if !connection.is_writing() {
            return;
        }
        connection.socket = Socket::Awake;
        let delivered = u64::from(core::mem::take(&mut connection.in_flight));
        self.stats.delivered += delivered;
        self.stats.in_flight -= delivered;
        let slot = connection.id.slot();
        self.deadlines.stall.disarm(slot);
        if connection.ping == Ping::HandedOut && !connection.is_closing() {
            connection.ping = Ping::Awaited;
            let now = self.attended();
            self.deadlines.pong.arm(slot, now);
            if matches!(connection.phase, Phase::Joining { .. }) {
                let now = self.now();
                self.deadlines.join.arm(slot, now);
            }
        }
    }

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
        let mut has_more = true;
        // The ack probe behind them goes with them.
        while (room > 0 || (has_written && connection.probe_due))
            && let Some(frame) = connection.pop_frame(
                &mut self.next_ping,
                window,
                &mut self.pool,
                &mut self.shares,
            )
        {
            room = room.saturating_sub(frame.len().max(1));
            self.stats.pings += u64::from(matches!(frame, Frame::Ping(_)));
            has_written = true;
            transmit(frame);
            connection.probe_due |= connection.needs_probe(window);
            has_more = connection.has_frame(window);
            if room == 0 || !has_more {
                let paced = connection.outbox.last_probe() != last_probe
                    || self.deadlines.probe.is_armed(slot);
                connection.probe_due |= connection.wants_probe(paced);
                has_more |= connection.probe_due;
            }
        }
        if connection.outbox.last_probe() != last_probe && !connection.is_closing() {
            let (now, attended) = (self.now(), self.attended());
            self.deadlines.probe.arm(slot, now);
            self.deadlines.ack.arm_if_idle(slot, attended);
        }
        if has_written {
            connection.socket = Socket::Writing;
            if !connection.is_closing() {
                let now = self.attended();
                self.deadlines.stall.arm(slot, now);
            }
        } else if has_more {
            connection.socket = Socket::Awake;
        }
        let transmitted = (queued.0 - connection.outbox.waiting()) as u64;
        self.stats.queued -= transmitted;
        self.stats.in_flight += transmitted;
        self.stats.in_flight_bytes += (connection.outbox.in_flight_bytes() - kept) as u64;
        self.stats.queued_bytes -= (queued.1 - connection.outbox.waiting_bytes()) as u64;
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
            let now = self.attended();
            self.deadlines.pong.arm(connection.id.slot(), now);
        }
        if core::mem::take(&mut connection.ack_overdue) {
            self.expect_ack(connection);
        }
    }
}
