//! What happens to a hub, and to its model at the same time.
//!
//! A [`Story`] is the settings of a hub and a list of [`Step`]s; written out, it reads like a log. It
//! comes from bytes ([`arbitrary::Arbitrary`]), so that a fuzzer can write stories, or from anybody
//! else who puts steps together. A [`Run`] lets a [`Hub`](pinch_proto::hub::Hub) and a
//! [`Model`](crate::model::Model) go through it side by side, and stops at the first difference, or
//! where something is not so that must always be so.
//!
//! ```
//! use pinch_sim::story::{Agent, Credit, Session, Settings, Size, Step, Story, To, What, Who};
//!
//! let bob = Who { agent: Agent::Bob, earlier: false };
//! let story = Story {
//!     settings: Settings::default(),
//!     steps: vec![
//!         Step::Join(Agent::Bob, false, Session::Plain),
//!         Step::Send { from: bob, to: To::Themselves, what: What::Message, size: Size::Small(9) },
//!         Step::Writable(bob, Credit::Plenty),
//!     ],
//! };
//! assert!(story.to_string().contains("bob sends themselves a message, with 9 bytes of text"));
//! story.run()?;
//! # Ok::<(), Box<pinch_sim::story::Broken>>(())
//! ```

mod bus;
mod cast;
mod choice;
mod ending;
mod invariants;
mod ledger;
mod message;
mod prose;
mod run;
mod settings;
mod step;
mod store;
mod turn;

use core::fmt;

use arbitrary::{Arbitrary, Unstructured};

pub use self::cast::{Agent, To, Who};
pub use self::run::Run;
pub use self::settings::{HOST, PLENTY, Queue, Rate, Settings};
pub use self::step::{
    Carry, Clock, Credit, Manner, Pong, Session, Size, Socket, Step, Store, What,
};
pub use self::turn::Broken;

/// So many steps of a story are told at the most.
const MAX_STEPS: usize = 400;

/// The settings of a hub, and what happens to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Story {
    /// The settings.
    pub settings: Settings,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
}

impl Story {
    /// Goes through the story, and then lets everybody leave.
    ///
    /// # Errors
    /// [`Broken`] says what went wrong, and when.
    pub fn run(&self) -> Result<(), Box<Broken>> {
        let mut run = Run::new(self.settings)?;
        for step in &self.steps {
            run.take(step)?;
        }
        run.finish()
    }
}

impl Story {
    /// A story of a relay with several shards.
    ///
    /// # Errors
    /// Never.
    pub fn of_shards(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let choice: u8 = bytes.arbitrary()?;
        let mut settings = Settings::arbitrary(bytes)?;
        settings.shards = 2 + u16::from(choice % 3);
        settings.bus_loses = choice >= 128;
        let mut steps = vec![];
        while steps.len() < MAX_STEPS && !bytes.is_empty() {
            let is_of_bus = bytes.arbitrary::<u8>()? < 64;
            steps.push(if is_of_bus {
                Step::Bus(Carry::arbitrary(bytes)?)
            } else {
                Step::arbitrary(bytes)?
            });
        }
        Ok(Self { settings, steps })
    }
}

impl<'a> Arbitrary<'a> for Story {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let settings = Settings::arbitrary(bytes)?;
        let mut steps = vec![];
        while steps.len() < MAX_STEPS && !bytes.is_empty() {
            steps.push(Step::arbitrary(bytes)?);
        }
        Ok(Self { settings, steps })
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A hub with {}; {} have joined.",
            self.settings, self.settings.present
        )?;
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "- {step}"))
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
