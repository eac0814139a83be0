//! The heartbeat of one connection after the other.

use core::time::Duration;

use super::live_hub::Order;
use super::{Addresses, LiveHub, Operation, Stage, Touch, config};

const INTERVAL: Duration = Duration::from_secs(25);

/// The ping of one connection falls due: it is woken, gets its ping, and answers.
///
/// Heartbeats concern everybody by nature. What is touched by [`Touch::Few`] is memory in its own
/// order, which caches foresee.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    hub: LiveHub,
    step: Duration,
}

impl Heartbeat {
    pub(crate) fn new(stage: Stage) -> Self {
        let addresses = Addresses::new(stage.live);
        let config = config().heartbeat_interval(INTERVAL);
        let mut hub = LiveHub::with_all(config, &addresses);
        let count = u32::try_from(stage.live).expect("a slot for each");
        let step = INTERVAL / count;
        assert_eq!(step * count, INTERVAL, "one ping falls due in each step");
        let mut order = Order::new(Stage {
            touch: Touch::All,
            ..stage
        });
        // Deadlines are kept in the order in which agents joined: so all of them join again, evenly
        // over one interval.
        for at in 0..stage.live {
            let agent = match stage.touch {
                Touch::All => order.next(),
                Touch::Few => at,
            };
            if at > 0 {
                hub.now = hub.now + step;
            }
            hub.leave(agent);
            let conn = hub.join(addresses.of(agent));
            hub.returned(agent, conn);
        }
        Self { hub, step }
    }
}

impl Operation for Heartbeat {
    type Given = ();

    fn prepare(&mut self) {}

    fn run(&mut self, (): ()) {
        self.hub.pass(self.step);
        assert_eq!(self.hub.serve_woken(), 1, "one ping is due");
    }
}
