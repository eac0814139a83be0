//! What agents do of their own accord: come and go, in order or not, and write to each other.

use core::time::Duration;

use super::world::{Event, World};

/// What an agent is used to. Times are means; the actual ones are random (exponential).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Habits {
    /// How long it stays.
    pub stays: Duration,
    /// How long it is away then.
    pub is_away: Duration,
    /// How often it writes to one of its contacts while it is there.
    pub writes_every: Duration,
    /// How many bytes that are at most.
    pub message_bytes: usize,
    /// How many contacts it has: the next agents of the same relay.
    pub contacts: u32,
    /// How many of a hundred stays end without a word: half of them in a crash, of the others half
    /// with a reset and half with a cut after which it goes on.
    pub rude_per_cent: u32,
    /// Whether it announces that it drops what is redelivered. One that does not acknowledges what it
    /// was sent by a clean close, too, and answers no ping behind its own close frame.
    pub deduplicates: bool,
}

impl Habits {
    /// A person with a phone: there for ten minutes, away for twenty, a message every minute.
    #[must_use]
    pub const fn person() -> Self {
        Self {
            stays: Duration::from_secs(600),
            is_away: Duration::from_secs(1200),
            writes_every: Duration::from_secs(60),
            message_bytes: 2000,
            contacts: 5,
            rude_per_cent: 40,
            deduplicates: true,
        }
    }

    /// A program that talks all the time and is restarted often.
    #[must_use]
    pub const fn busy() -> Self {
        Self {
            stays: Duration::from_secs(60),
            is_away: Duration::from_secs(20),
            writes_every: Duration::from_millis(500),
            message_bytes: 20_000,
            contacts: 3,
            rude_per_cent: 50,
            deduplicates: true,
        }
    }

    /// A tool that runs for a moment at a time: it joins, takes its queue, writes, and closes in order,
    /// often before its queue has come. It remembers nothing of earlier runs.
    #[must_use]
    pub const fn short_sessions() -> Self {
        Self {
            stays: Duration::from_millis(800),
            is_away: Duration::from_secs(2),
            writes_every: Duration::from_millis(500),
            message_bytes: 2000,
            contacts: 3,
            rude_per_cent: 0,
            deduplicates: false,
        }
    }

    /// A device that is always there, and says nothing.
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            stays: Duration::MAX,
            is_away: Duration::ZERO,
            writes_every: Duration::MAX,
            message_bytes: 0,
            contacts: 0,
            rude_per_cent: 0,
            deduplicates: true,
        }
    }
}

/// One of the things that an agent does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Habit {
    ComesAndGoes,
    Writes,
}

impl World {
    /// Has agents live by `habits`, as all who live in this world from now on, until it calms down.
    pub fn live(&mut self, agents: impl IntoIterator<Item = u32>, habits: Habits) {
        self.habits = Some(habits);
        for agent in agents {
            self.plan_habit(agent, Habit::ComesAndGoes, habits.stays);
            self.plan_habit(agent, Habit::Writes, habits.writes_every);
        }
    }

    /// Whether agents announce that they drop what is redelivered.
    pub(super) fn deduplicates(&self) -> bool {
        self.habits.is_none_or(|habits| habits.deduplicates)
    }

    fn plan_habit(&mut self, agent: u32, habit: Habit, mean: Duration) {
        if mean == Duration::MAX {
            return;
        }
        let random = 1.0 - self.random.f64();
        let at = self.now + mean.mul_f64(-random.ln());
        self.schedule.push(at, Event::Acts(agent, habit));
    }

    pub(super) fn act(&mut self, agent: u32, habit: Habit) {
        let Some(habits) = self.habits else {
            return;
        };
        match habit {
            Habit::Writes => {
                self.write_to_a_contact(agent, habits);
                self.plan_habit(agent, habit, habits.writes_every);
            }
            Habit::ComesAndGoes => {
                let mean = self.come_or_go(agent, habits);
                self.plan_habit(agent, habit, mean);
            }
        }
    }

    fn write_to_a_contact(&mut self, agent: u32, habits: Habits) {
        let relays = self.relay_count();
        let ahead = self.random.u32(1..=habits.contacts) * relays;
        let contact = (agent + ahead) % (self.agent_count() / relays * relays);
        let len = self.random.usize(..=habits.message_bytes);
        self.write(agent, contact, len);
    }

    /// Gives the mean time until the next change.
    fn come_or_go(&mut self, agent: u32, habits: Habits) -> Duration {
        if self.agents[agent as usize].client.is_none() {
            self.start([agent]);
            return habits.stays;
        }
        let is_rude = self.random.u32(..100) < habits.rude_per_cent;
        match (is_rude, self.random.u8(..4)) {
            (false, _) => self.leave([agent]),
            (true, 0 | 1) => self.crash(agent),
            (true, 2) => {
                self.reset(agent);
                return habits.stays;
            }
            (true, _) => {
                self.cut(agent);
                return habits.stays;
            }
        }
        habits.is_away
    }
}
