//! Messages to the relay itself, with a rate limit and without one.

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Input, RateLimit};
use pinch_proto::wire::{Envelope, Heartbeat, MessageType, Payload};

use super::live_hub::{Order, as_read};
use super::{Addresses, LiveHub, Operation, Stage, config};

/// A connection, and a HEARTBEAT of its agent: the relay takes it, and nothing else comes of it.
#[derive(Debug)]
pub(crate) struct Beat {
    conn: ConnId,
    message: Bytes,
}

#[derive(Debug)]
struct Beating {
    hub: LiveHub,
    addresses: Addresses,
    order: Order,
}

impl Beating {
    fn new(stage: Stage, limit: Option<RateLimit>) -> Self {
        let addresses = Addresses::new(stage.live);
        Self {
            hub: LiveHub::with_all(config().rate_limit(limit), &addresses),
            addresses,
            order: Order::new(stage),
        }
    }

    fn beat_of(&self, agent: usize) -> Beat {
        let envelope = Envelope {
            version: 1,
            from_address: self.addresses.of(agent).as_str().into(),
            r#type: MessageType::Heartbeat.into(),
            message_id: vec![1; 16].into(),
            payload: Some(Payload::Heartbeat(Heartbeat::default())),
            ..Envelope::default()
        };
        Beat {
            conn: self.hub.conn(agent),
            message: as_read(&envelope),
        }
    }

    fn next(&mut self) -> Beat {
        let agent = self.order.next();
        self.beat_of(agent)
    }

    fn receive(&mut self, beat: Beat) {
        self.hub.hand_in(Input::Received {
            conn: beat.conn,
            message: beat.message.into(),
        });
    }
}

/// A message that ends in the hub: what receiving costs, without anybody who gets it. With a limit,
/// it takes a token; the difference is what the bucket costs.
#[derive(Debug)]
pub(crate) struct Consume(Beating);

impl Consume {
    pub(crate) fn new(stage: Stage, limited: bool) -> Self {
        let plenty = RateLimit::new(1e9, u32::MAX).expect("a limit");
        Self(Beating::new(stage, limited.then_some(plenty)))
    }
}

impl Operation for Consume {
    type Given = Beat;

    fn prepare(&mut self) -> Beat {
        self.0.next()
    }

    fn run(&mut self, beat: Beat) {
        self.0.receive(beat);
    }
}

/// A message over the rate limit: its sender is told, and has nothing else to write.
#[derive(Debug)]
pub(crate) struct RefuseRate(Beating);

impl RefuseRate {
    pub(crate) fn new(stage: Stage) -> Self {
        let scarce = RateLimit::new(1e-6, 1).expect("a limit");
        let mut beating = Beating::new(stage, Some(scarce));
        // Everybody takes the only token.
        for agent in 0..stage.live {
            let beat = beating.beat_of(agent);
            beating.receive(beat);
        }
        Self(beating)
    }
}

impl Operation for RefuseRate {
    type Given = Beat;

    fn prepare(&mut self) -> Beat {
        self.0.next()
    }

    fn run(&mut self, beat: Beat) {
        let conn = beat.conn;
        self.0.receive(beat);
        let hub = &mut self.0.hub;
        assert!(hub.write(conn) > 0, "it is told");
        hub.forget_woken();
    }
}
