//! Each request to the store × each way in which its answer goes wrong × each thing that happens to
//! the recipient meanwhile: afterwards every envelope has arrived or was told, each connection got
//! what it got in order, and nothing is left behind.

mod support;

use pinch_proto::hub::{Admission, ConnId, Hub, Input, OnDuplicate, QueueConfig};
use pinch_proto::queue::{Failure, Operation, Request};

use support::{Manner, START, StoreManner, World, config, secs};

/// What the store has been asked for Bob when it happens.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Append,
    Read,
    Remove,
}

/// What becomes of the answer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// It comes afterwards.
    Late,
    /// It comes afterwards, and is a failure.
    Failure,
    /// It comes when nobody waits for it any more.
    TooLate,
}

/// What happens to Bob.
#[derive(Clone, Copy, Debug)]
enum Event {
    Disconnect,
    Takeover,
    Shutdown,
    SlowReader,
}

struct Story {
    world: World,
    alice: ConnId,
    bobs: Vec<ConnId>,
    sent: usize,
    /// What Bob has got on each connection.
    got: Vec<Vec<usize>>,
    told: Vec<usize>,
}

impl Story {
    fn new() -> Self {
        let config = config().on_duplicate(OnDuplicate::Replace).outbox_count(2);
        let mut world = World::new(config.queue(QueueConfig::new()));
        let alice = world.join("alice");
        Self {
            world,
            alice,
            bobs: vec![],
            sent: 0,
            got: vec![],
            told: vec![],
        }
    }

    /// Alice writes to Bob.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.world.say(self.alice, "bob", &self.sent.to_string());
            self.sent += 1;
        }
    }

    fn bob(&self) -> ConnId {
        *self.bobs.last().expect("he has joined")
    }

    fn bob_joins(&mut self) {
        let conn = self.world.knock("bob", Admission::Named).expect("admitted");
        self.bobs.push(conn);
        self.got.push(vec![]);
        self.world.settle();
    }

    /// Notes what everybody has heard.
    fn note(&mut self) {
        for (conn, got) in self.bobs.iter().zip(&mut self.got) {
            for line in self.world.heard(*conn) {
                let number = line
                    .strip_prefix("alice: ")
                    .and_then(|text| text.parse::<usize>().ok());
                got.extend(number);
            }
        }
        for line in self.world.heard(self.alice) {
            let about = line.strip_prefix("QUEUE_FULL bob #");
            let about = about.and_then(|rest| rest.split_once(':'));
            self.told
                .extend(about.and_then(|(number, _)| number.parse::<usize>().ok()));
        }
    }

    /// Until the store is asked for this, and has answered everything before.
    fn come_to(&mut self, asked: Asked) {
        let is_it = |request: &Request| match asked {
            Asked::Append => matches!(request.operation, Operation::Append(_)),
            Asked::Read => matches!(request.operation, Operation::Read(_)),
            Asked::Remove => matches!(request.operation, Operation::Remove { .. }),
        };
        if matches!(asked, Asked::Read | Asked::Remove) {
            self.write(3);
            self.world.settle();
        }
        if matches!(asked, Asked::Append) {
            self.bob_joins();
            self.world.settle();
        }
        self.world.store.manner = StoreManner::Held;
        match asked {
            Asked::Append => {
                self.world.set(self.bob(), Manner::Blocked);
                self.write(1);
                self.world.settle();
                self.write(3);
            }
            Asked::Read => self.bob_joins(),
            Asked::Remove => {
                self.bob_joins();
                while !self.world.store.asked.front().is_some_and(is_it) {
                    if !self.world.answer() {
                        self.world.pass(secs(1));
                    }
                }
            }
        }
        assert!(self.world.store.asked.front().is_some_and(is_it));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Disconnect => drop(self.world.give(Input::Closed {
                conn: self.bob(),
                clean: false,
            })),
            Event::Takeover => self.bob_joins(),
            Event::Shutdown => drop(self.world.give(Input::Shutdown)),
            Event::SlowReader => self.world.set(self.bob(), Manner::Blocked),
        }
        // After a shutdown nobody listens to her any more.
        if !matches!(event, Event::Shutdown) {
            self.write(4);
        }
    }

    /// The answer that was awaited, and then all others.
    fn go_on(&mut self, answer: Answer) {
        match answer {
            Answer::Late => {}
            Answer::Failure => drop(self.world.fail(Failure::DiskFull)),
            Answer::TooLate => self.world.pass(secs(11)),
        }
        self.world.store.manner = StoreManner::Prompt;
        self.world.settle();
        self.note();
    }

    /// Bob is there, and reads everything.
    fn end(&mut self, event: Event) {
        match event {
            Event::Disconnect => self.bob_joins(),
            Event::Takeover => {}
            Event::SlowReader => {
                if self.world.cause(self.bob()).is_none() {
                    self.world.set(self.bob(), Manner::Honest);
                }
            }
            Event::Shutdown => {
                self.world.pass(secs(30));
                self.note();
                assert_eq!(self.world.shut_down, 1);
                self.restart();
                self.bob_joins();
            }
        }
        self.world.pass(secs(60));
        self.note();
        // Where his connection was closed for its slowness, he comes once more.
        if self.world.cause(self.bob()).is_some() {
            self.bob_joins();
            self.world.pass(secs(60));
            self.note();
        }
    }

    /// A new relay on the same store.
    fn restart(&mut self) {
        let mut world = World::with_queue();
        let restored = self.world.store.queue.restored();
        let config = world.hub.config().clone();
        world.hub = Hub::new(config, [9; 16], world.now, START).with_restored(restored);
        world.store.queue = core::mem::take(&mut self.world.store.queue);
        self.world = world;
        self.bobs.clear();
        // Their connections are gone; what they got was noted.
        self.alice = self.world.join("alice");
        let before = core::mem::take(&mut self.got);
        assert_in_order(&before);
        self.told.extend(before.into_iter().flatten());
    }
}

fn assert_in_order(connections: &[Vec<usize>]) {
    for got in connections {
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
    }
}

fn tell(asked: Asked, answer: Answer, event: Event) {
    let case = format!("{asked:?} × {answer:?} × {event:?}");
    let mut story = Story::new();
    story.come_to(asked);
    story.happen(event);
    story.go_on(answer);
    story.end(event);

    assert_in_order(&story.got);
    let arrived = |number: &usize| story.got.iter().flatten().any(|got| got == number);
    let lost = |number: &usize| !arrived(number) && !story.told.contains(number);
    let lost: Vec<_> = (0..story.sent).filter(lost).collect();
    if matches!(
        (asked, answer, event),
        (Asked::Append, Answer::Failure, Event::Shutdown)
    ) {
        // Nobody is there any more who could be told that the disk is full.
        assert_eq!(lost, [3], "{case}: the one whose append has failed");
    } else {
        assert_eq!(
            lost, [0; 0],
            "{case}: got {:?}, told {:?}",
            story.got, story.told
        );
    }
    let stats = story.world.stats();
    let held = [stats.backlogged, stats.queued, stats.in_flight];
    assert_eq!(held, [0; 3], "{case}");
    let owed = [stats.storing, stats.store_unanswered];
    assert_eq!(owed, [0; 2], "{case}");
    let may_stay = matches!((asked, answer), (Asked::Remove, Answer::Failure));
    assert!(story.world.store.queue.is_empty() || may_stay, "{case}");
}

#[test]
fn nothing_is_lost_or_overtaken_whatever_meets_whatever() {
    for asked in [Asked::Append, Asked::Read, Asked::Remove] {
        for answer in [Answer::Late, Answer::Failure, Answer::TooLate] {
            for event in [
                Event::Disconnect,
                Event::Takeover,
                Event::Shutdown,
                Event::SlowReader,
            ] {
                tell(asked, answer, event);
            }
        }
    }
}
