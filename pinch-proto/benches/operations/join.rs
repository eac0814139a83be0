//! Connections that begin and end.

use pinch_proto::Address;
use pinch_proto::hub::Admission;

use super::live_hub::Order;
use super::{Addresses, LiveHub, Operation, Stage, config};

/// An agent and its address.
#[derive(Debug)]
pub(crate) struct Returning {
    agent: usize,
    address: Address,
}

#[derive(Debug)]
struct Agents {
    hub: LiveHub,
    addresses: Addresses,
    order: Order,
}

impl Agents {
    fn new(stage: Stage) -> Self {
        let addresses = Addresses::new(stage.live);
        Self {
            hub: LiveHub::with_all(config(), &addresses),
            addresses,
            order: Order::new(stage),
        }
    }

    fn next(&mut self) -> Returning {
        let agent = self.order.next();
        Returning {
            agent,
            address: self.addresses.of(agent),
        }
    }
}

/// A connection is lost, and its agent is registered again: the routing table and no more.
#[derive(Debug)]
pub(crate) struct RegisterUnregister(Agents);

impl RegisterUnregister {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Agents::new(stage))
    }
}

impl Operation for RegisterUnregister {
    type Given = Returning;

    fn prepare(&mut self) -> Returning {
        self.0.next()
    }

    fn run(&mut self, returning: Returning) {
        let hub = &mut self.0.hub;
        hub.leave(returning.agent);
        let conn = hub.register(returning.address, Admission::Named);
        hub.returned(returning.agent, conn);
    }
}

/// A connection is lost, and its agent joins again: with AUTH_RESULT, the first ping and its pong.
#[derive(Debug)]
pub(crate) struct JoinLeave(Agents);

impl JoinLeave {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Agents::new(stage))
    }
}

impl Operation for JoinLeave {
    type Given = Returning;

    fn prepare(&mut self) -> Returning {
        self.0.next()
    }

    fn run(&mut self, returning: Returning) {
        let hub = &mut self.0.hub;
        hub.leave(returning.agent);
        let conn = hub.join(returning.address);
        hub.returned(returning.agent, conn);
    }
}
