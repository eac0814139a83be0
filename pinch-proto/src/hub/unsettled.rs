//! What one connection sent that the store has not answered for, and the replies that wait for that.
//!
//! A peer takes a pong, or the answer to its close frame, as a sign that what it sent before was
//! accepted. So such a reply waits until the store has answered for all of it: a rejection goes
//! first. Requests between two replies form a span; a reply waits for its own span and for those
//! before it, however the answers are ordered.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::links::ItemId;
use super::outbox::MAX_PONGS;
use crate::Frame;

/// What caused a request to the store, or an item for another shard, and waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A connection, and the span that the request belongs to.
    Conn { conn: super::ConnId, span: u64 },
    /// An item from another shard.
    Item(ItemId),
}

impl Origin {
    /// The connection, if it is one.
    pub(super) const fn conn(self) -> Option<super::ConnId> {
        match self {
            Self::Conn { conn, .. } => Some(conn),
            Self::Item(_) => None,
        }
    }
}

/// Requests between two replies, and the replies behind them.
#[derive(Debug, Default)]
struct Span {
    unanswered: u32,
    replies: Vec<Frame>,
}

#[derive(Debug, Default)]
struct Books {
    /// The number of unanswered requests, given up or not.
    unanswered: u32,
    /// The number of the first span.
    first: u64,
    /// Replies stand behind all spans but the last.
    spans: VecDeque<Span>,
}

/// The unanswered requests of one connection. If there are none, it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Option<Box<Books>>);

impl Unsettled {
    /// Counts a request, and returns the number of its span.
    pub(super) fn begin(&mut self) -> u64 {
        let books = self.0.get_or_insert_default();
        books.unanswered += 1;
        if books
            .spans
            .back()
            .is_none_or(|span| !span.replies.is_empty())
        {
            books.spans.push_back(Span::default());
        }
        if let Some(span) = books.spans.back_mut() {
            span.unanswered += 1;
        }
        books.first + books.spans.len() as u64 - 1
    }

    /// Keeps `reply` until everything before it is answered; returns it if nothing is awaited.
    ///
    /// Beyond [`MAX_PONGS`], a pong takes the place of the one before it: a peer may be sent the pong
    /// of its last ping only (RFC 6455 section 5.5.3).
    pub(super) fn hold(&mut self, reply: Frame) -> Option<Frame> {
        let Some(books) = &mut self.0 else {
            return Some(reply);
        };
        if matches!(reply, Frame::Pong(_)) && books.replies() >= MAX_PONGS {
            let mut spans = books.spans.iter_mut().rev();
            let replies = spans.find(|span| !span.replies.is_empty());
            replies.and_then(|span| span.replies.pop());
        }
        let Some(last) = books.spans.back_mut() else {
            return Some(reply);
        };
        last.replies.push(reply);
        None
    }

    /// A request of `span` was answered: returns the replies that wait no longer.
    pub(super) fn answer(&mut self, span: u64) -> Vec<Frame> {
        let mut released = Vec::new();
        let Some(books) = &mut self.0 else {
            return released;
        };
        books.unanswered -= 1;
        let place = span.checked_sub(books.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(span) = place.and_then(|place| books.spans.get_mut(place)) {
            span.unanswered -= 1;
        }
        while books.spans.front().is_some_and(|span| span.unanswered == 0)
            && let Some(span) = books.spans.pop_front()
        {
            books.first += 1;
            released.extend(span.replies);
        }
        self.0.take_if(|books| books.unanswered == 0);
        released
    }

    /// Returns the replies that wait: nothing is awaited any more but by later ones.
    pub(super) fn give_up(&mut self) -> Vec<Frame> {
        let Some(books) = &mut self.0 else {
            return Vec::new();
        };
        books.first += books.spans.len() as u64;
        let spans = core::mem::take(&mut books.spans);
        spans.into_iter().flat_map(|span| span.replies).collect()
    }

    /// Returns the number of unanswered requests.
    pub(super) fn len(&self) -> u32 {
        self.0.as_ref().map_or(0, |books| books.unanswered)
    }

    /// Returns whether a reply waits.
    pub(super) fn has_replies(&self) -> bool {
        self.0.as_ref().is_some_and(|books| books.replies() > 0)
    }
}

impl Books {
    fn replies(&self) -> usize {
        self.spans.iter().map(|span| span.replies.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn pong(text: &'static str) -> Frame {
        Frame::Pong(text.into())
    }

    #[test]
    fn a_reply_waits_for_what_came_before_it_and_for_nothing_else() {
        let mut unsettled = Unsettled::default();
        assert_eq!(unsettled.hold(pong("0")), Some(pong("0")));
        let (a, b) = (unsettled.begin(), unsettled.begin());
        assert_eq!(unsettled.hold(pong("1")), None);
        let c = unsettled.begin();
        assert_eq!(unsettled.hold(pong("2")), None);
        let d = unsettled.begin();
        assert_eq!(unsettled.answer(c), []);
        assert_eq!(unsettled.answer(b), []);
        assert_eq!(unsettled.answer(a), [pong("1"), pong("2")]);
        assert!(!unsettled.has_replies());
        assert_eq!(unsettled.len(), 1);
        assert_eq!(unsettled.answer(d), []);
        assert!(unsettled.0.is_none());
    }

    #[test]
    fn a_reply_that_was_given_up_is_returned_once_and_its_requests_still_count() {
        let mut unsettled = Unsettled::default();
        let a = unsettled.begin();
        unsettled.hold(pong("1"));
        let b = unsettled.begin();
        assert_eq!(unsettled.give_up(), [pong("1")]);
        assert_eq!(unsettled.hold(pong("2")), Some(pong("2")));
        let c = unsettled.begin();
        assert_eq!(unsettled.hold(pong("3")), None);
        assert_eq!((unsettled.answer(a), unsettled.answer(b)), (vec![], vec![]));
        assert_eq!(unsettled.len(), 1);
        assert_eq!(unsettled.answer(c), [pong("3")]);
        assert!(unsettled.0.is_none());
    }

    #[test]
    fn the_newest_pongs_are_kept() {
        let mut unsettled = Unsettled::default();
        let a = unsettled.begin();
        for _ in 0..MAX_PONGS {
            unsettled.hold(pong("old"));
        }
        let b = unsettled.begin();
        unsettled.hold(pong("new"));
        unsettled.answer(b);
        let released = unsettled.answer(a);
        assert_eq!(released.len(), MAX_PONGS);
        assert_eq!(released.last(), Some(&pong("new")));
    }
}
