//! Agents, relays and what lies between them, in virtual time.
//!
//! A [`World`] runs the real machines, a [`Hub`](pinch_proto::hub::Hub) for each relay and a
//! [`Client`](pinch_proto::client::Client) for each agent, over links that behave as TCP does:
//! packets take their time, come in order, and wait when nobody reads. Nothing here reads a clock or
//! draws a random number of its own: the same seed gives the same world, event by event.
//!
//! What goes wrong is told to the world: connections are reset, or cut without anybody being told;
//! agents crash, stop reading, or are partitioned from their relay; relays are restarted or killed;
//! clocks jump. Whatever happens, the world keeps a [`Ledger`] of every envelope and says what became
//! of it.
//!
//! ```
//! use core::time::Duration;
//! use pinch_sim::network::{Habits, World};
//!
//! let mut world = World::new(42);
//! let agents = world.add_agents(20);
//! world.start(agents.clone());
//! world.live(agents.clone(), Habits::busy());
//! world.run_for(Duration::from_secs(600));
//! world.partition(agents.start..agents.start + 10);
//! world.run_for(Duration::from_secs(60));
//! world.heal();
//! world.calm_down();
//! assert_eq!(world.ledger().lost(), 0);
//! ```

mod agent;
mod faults;
mod habits;
mod ledger;
mod link;
mod relay;
mod schedule;
mod world;

pub use self::habits::Habits;
pub use self::ledger::{Fate, Ledger};
pub use self::world::{Conditions, Counts, World};
