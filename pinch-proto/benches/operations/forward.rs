//! An envelope from one connection to another.

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Input};

use super::live_hub::{ACK_PROBE_INTERVAL, Order};
use super::{Addresses, FEW, LiveHub, Operation, Stage, Touch, config};

/// Two connections, and what the first one sends to the other.
#[derive(Debug)]
pub(crate) struct Sent {
    sender: ConnId,
    recipient: ConnId,
    message: Bytes,
}

impl Sent {
    fn received(&self) -> Input {
        Input::Received {
            conn: self.sender,
            message: self.message.clone().into(),
        }
    }
}

/// Pairs of connections, and what they say to each other.
#[derive(Debug)]
struct Pairs {
    hub: LiveHub,
    addresses: Addresses,
    order: Order,
}

impl Pairs {
    fn new(stage: Stage) -> Self {
        let addresses = Addresses::new(stage.live);
        Self {
            hub: LiveHub::with_all(config(), &addresses),
            addresses,
            order: Order::new(stage),
        }
    }

    fn next(&mut self) -> Sent {
        let (from, to) = (self.order.next(), self.order.next());
        Sent {
            sender: self.hub.conn(from),
            recipient: self.hub.conn(to),
            message: self.addresses.message(from, to),
        }
    }
}

/// What the hub has to do for one envelope at least: it comes, it is handed out, and the recipient
/// has nothing else to write. Its ack probe goes with it; the ack is not measured.
#[derive(Debug)]
pub(crate) struct Forward(Pairs);

impl Forward {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Pairs::new(stage))
    }
}

impl Operation for Forward {
    type Given = Sent;

    fn prepare(&mut self) -> Sent {
        self.0.hub.confirm_all();
        self.0.next()
    }

    fn run(&mut self, sent: Sent) {
        let hub = &mut self.0.hub;
        hub.hand_in(Input::Received {
            conn: sent.sender,
            message: sent.message.into(),
        });
        assert!(hub.write(sent.recipient) > 0, "it is handed out");
        hub.forget_woken();
    }
}

/// One envelope with everything that a driver says for it: the rounds of both tasks, the ack probe and
/// its pong, and the end of the gap behind it.
#[derive(Debug)]
pub(crate) struct ForwardWhole(Pairs);

impl ForwardWhole {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Pairs::new(stage))
    }
}

impl Operation for ForwardWhole {
    type Given = Sent;

    fn prepare(&mut self) -> Sent {
        self.0.next()
    }

    fn run(&mut self, sent: Sent) {
        let hub = &mut self.0.hub;
        let received = Input::Received {
            conn: sent.sender,
            message: sent.message.into(),
        };
        hub.rounds(sent.sender, Some(received));
        assert_eq!(hub.serve_woken(), 1, "the recipient is woken");
        hub.pass(ACK_PROBE_INTERVAL);
        assert_eq!(hub.serve_woken(), 0, "it is acknowledged");
    }
}

/// The same envelope 64 times at once: all are handed out together, and one ack probe follows them.
#[derive(Debug)]
pub(crate) struct ForwardBurst(Pairs);

impl ForwardBurst {
    /// How many envelopes one operation forwards.
    pub(crate) const COUNT: usize = 64;

    pub(crate) fn new(stage: Stage) -> Self {
        Self(Pairs::new(stage))
    }
}

impl Operation for ForwardBurst {
    type Given = Sent;

    fn prepare(&mut self) -> Sent {
        self.0.next()
    }

    fn run(&mut self, sent: Sent) {
        let hub = &mut self.0.hub;
        for _ in 0..Self::COUNT {
            hub.hand_in(sent.received());
        }
        assert_eq!(hub.serve_woken(), 1, "the recipient is woken once");
        hub.pass(ACK_PROBE_INTERVAL);
        assert_eq!(hub.serve_woken(), 0, "all are acknowledged");
    }
}

/// One envelope of a stream that does not end: it comes and is handed out, and behind each 64 KiB
/// there is an ack probe. The recipient never falls asleep, and always has something unconfirmed.
#[derive(Debug)]
pub(crate) struct ForwardStream {
    hub: LiveHub,
    sent: Vec<Sent>,
    at: usize,
}

impl ForwardStream {
    pub(crate) fn new(live: usize) -> Self {
        let mut pairs = Pairs::new(Stage {
            live,
            touch: Touch::Few,
        });
        let sent = (0..FEW).map(|_| pairs.next()).collect();
        Self {
            hub: pairs.hub,
            sent,
            at: 0,
        }
    }
}

impl Operation for ForwardStream {
    type Given = ();

    fn prepare(&mut self) {}

    fn run(&mut self, (): ()) {
        let sent = &self.sent[self.at];
        self.at = (self.at + 1) % self.sent.len();
        self.hub.hand_in(sent.received());
        assert!(self.hub.write(sent.recipient) > 0, "it is handed out");
        self.hub.forget_woken();
        self.hub.take_pongs();
    }
}
