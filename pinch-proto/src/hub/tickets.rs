//! What the store owes an answer for.
//!
//! Every request to the store leaves with a ticket and comes back with it. A ticket has a deadline,
//! so that a sender does not wait for an answer that never comes; but what the ticket stands for
//! keeps its place in the books until the answer is there, since the store still holds it: this is
//! what bounds the memory of a store that has stopped to answer. The deadline counts attended time:
//! an answer that came while the process was paused is not late.

use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;

use super::io::ConnId;
use super::seeded::Seeded;
use super::shares::Marks;
use super::unsettled::Origin;
use crate::Address;
use crate::attended::AttendedTime;
use crate::queue::Ticket;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) enum RequestKind {
    /// An envelope was to be stored: this one, which came from a connection or had its place before.
    Append {
        message: Bytes,
        from: Option<Origin>,
        charge: Charge,
    },
    /// Envelopes were to be read for a connection of `recipient`, and room for so many bytes was set
    /// aside.
    Read {
        conn: ConnId,
        recipient: Address,
        room: usize,
        marks: Marks,
    },
    /// A block was to be kept, or forgotten, as this message of a connection says.
    Change { message: Bytes, from: Origin },
    /// What has expired was to be removed.
    Expire,
    /// Anything else that nobody waits for.
    Upkeep,
}

/// What an envelope that is to be stored counts for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    /// The place of its sender, and that of its recipient if that was connected.
    pub(super) sender: u32,
    pub(super) to: u32,
    /// As what the recipient was connected.
    pub(super) conn: Option<ConnId>,
    pub(super) cost: u64,
    pub(super) marks: Marks,
    /// It is not to be stored, but to come to the same.
    pub(super) discard: bool,
}

#[derive(Debug)]
struct Unanswered {
    kind: RequestKind,
    bytes: usize,
    /// Its deadline has passed, and whoever waited was told.
    overdue: bool,
}

/// An answer's counterpart.
#[derive(Debug)]
pub(super) struct Completed {
    pub(super) kind: RequestKind,
    /// The answer came too late.
    pub(super) overdue: bool,
}

/// All unanswered requests of a hub.
#[derive(Debug)]
pub(super) struct Tickets {
    wait: Duration,
    next: u64,
    unanswered: HashMap<Ticket, Unanswered, Seeded>,
    /// In the order of the deadlines; those that were answered are skipped.
    deadlines: VecDeque<(AttendedTime, Ticket)>,
    bytes: usize,
    overdue: usize,
}

impl Tickets {
    /// Tickets that are overdue `wait` after they were issued.
    pub(super) fn new(wait: Duration, seeded: Seeded) -> Self {
        Self {
            wait,
            next: 0,
            unanswered: HashMap::with_hasher(seeded),
            deadlines: VecDeque::new(),
            bytes: 0,
            overdue: 0,
        }
    }

    /// A new ticket, for a request that holds `bytes` until it is answered.
    pub(super) fn issue(&mut self, kind: RequestKind, bytes: usize, now: AttendedTime) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.bytes += bytes;
        let request = Unanswered {
            kind,
            bytes,
            overdue: false,
        };
        self.unanswered.insert(ticket, request);
        self.deadlines.push_back((now + self.wait, ticket));
        ticket
    }

    /// The answer to `ticket` is there; `None` if no answer was owed.
    pub(super) fn complete(&mut self, ticket: Ticket) -> Option<Completed> {
        let request = self.unanswered.remove(&ticket)?;
        self.bytes -= request.bytes;
        self.overdue -= usize::from(request.overdue);
        self.skip_answered();
        Some(Completed {
            kind: request.kind,
            overdue: request.overdue,
        })
    }

    /// The next request whose deadline has passed at `now`; each is named once.
    pub(super) fn pop_overdue(&mut self, now: AttendedTime) -> Option<RequestKind> {
        let &(due, ticket) = self.deadlines.front()?;
        if due > now {
            return None;
        }
        self.deadlines.pop_front();
        let request = self.unanswered.get_mut(&ticket);
        let kind = request.map(|request| {
            request.overdue = true;
            self.overdue += 1;
            request.kind.clone()
        });
        self.skip_answered();
        kind
    }

    /// When the next deadline passes.
    pub(super) fn next_due(&self) -> Option<AttendedTime> {
        self.deadlines.front().map(|&(due, _)| due)
    }

    /// The bytes that the store owes an answer for.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.unanswered.len()
    }

    /// Whether nobody waits for an answer any more.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered.len() == self.overdue
    }

    /// Keeps the invariant that the first deadline is that of an unanswered request.
    fn skip_answered(&mut self) {
        while let Some((_, ticket)) = self.deadlines.front()
            && !self.unanswered.contains_key(ticket)
        {
            self.deadlines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> AttendedTime {
        AttendedTime::default() + Duration::from_secs(seconds)
    }

    fn tickets() -> Tickets {
        Tickets::new(Duration::from_secs(10), Seeded::new([1; 16]))
    }

    fn append(text: &'static str) -> RequestKind {
        RequestKind::Append {
            message: text.into(),
            from: None,
            charge: Charge {
                sender: 0,
                to: 0,
                conn: None,
                cost: 0,
                marks: Marks::default(),
                discard: false,
            },
        }
    }

    #[test]
    fn an_answered_ticket_never_falls_due_and_leaves_nothing() {
        let mut tickets = tickets();
        let first = tickets.issue(RequestKind::Upkeep, 5, at(0));
        let second = tickets.issue(append("two"), 7, at(1));
        assert_eq!(tickets.bytes(), 12);
        assert!(!tickets.complete(first).unwrap().overdue);
        assert!(tickets.complete(first).is_none(), "only once");
        assert_eq!((tickets.next_due(), tickets.bytes()), (Some(at(11)), 7));
        assert!(
            matches!(tickets.complete(second).unwrap().kind, RequestKind::Append { message, .. } if message == "two")
        );
        assert_eq!(
            (tickets.next_due(), tickets.bytes(), tickets.len()),
            (None, 0, 0)
        );
        assert!(tickets.deadlines.is_empty());
    }

    #[test]
    fn an_overdue_ticket_is_named_once_and_counts_until_it_is_answered() {
        let mut tickets = tickets();
        let late = tickets.issue(append("late"), 7, at(0));
        tickets.issue(RequestKind::Expire, 0, at(5));
        assert!(tickets.pop_overdue(at(9)).is_none());
        assert!(matches!(
            tickets.pop_overdue(at(10)),
            Some(RequestKind::Append { .. })
        ));
        assert!(tickets.pop_overdue(at(10)).is_none());
        assert!(!tickets.is_settled());
        assert!(matches!(
            tickets.pop_overdue(at(15)),
            Some(RequestKind::Expire)
        ));
        assert!(tickets.is_settled());
        assert_eq!((tickets.bytes(), tickets.len()), (7, 2));
        assert!(tickets.complete(late).unwrap().overdue);
        assert_eq!((tickets.bytes(), tickets.len()), (0, 1));
        assert!(tickets.is_settled());
    }

    #[test]
    fn answers_out_of_order_leave_no_deadline_behind() {
        let mut tickets = tickets();
        let all = [0, 1, 2].map(|second| tickets.issue(RequestKind::Upkeep, 0, at(second)));
        tickets.complete(all[1]);
        assert_eq!(tickets.next_due(), Some(at(10)));
        tickets.complete(all[0]);
        assert_eq!(tickets.next_due(), Some(at(12)));
    }
}
