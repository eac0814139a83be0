//! Source addresses in virtual time: admission, eviction, limits, and what is remembered.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::hub::{ConfigError, RateLimit};
use pinch_proto::peers::{Accepted, Limits, Peers, PendingId, Rejection, Source};
use proptest::prelude::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc000_0200 + number).into()
}

fn peers(limits: Limits) -> Peers {
    Peers::new(limits.build().expect("limits above 0"), [7; 16])
}

/// Admits one without an eviction.
fn accept(peers: &mut Peers, from: IpAddr) -> PendingId {
    let Accepted { id, evicted, .. } = peers.accept(Some(from), at(0));
    assert_eq!(evicted, None, "from {from}");
    id
}

#[test]
fn one_address_with_thousands_of_half_requests_harms_itself_alone() {
    let mut peers = peers(Limits::new());
    let honest = accept(&mut peers, v4(1));
    for _ in 0..10_000 {
        peers.accept(Some(v4(2)), at(0));
    }
    assert_eq!(peers.stats().pending, 1024 + 1);
    assert!(peers.is_pending(honest));
    // A newcomer from the same address or another is admitted.
    for from in [v4(1), v4(2), v4(3)] {
        let newcomer = peers.accept(Some(from), at(0)).id;
        assert!(peers.is_pending(newcomer));
        assert_eq!(peers.upgrade(newcomer, at(0)), Ok(()));
        let place = peers.join(newcomer).unwrap();
        peers.leave(place, at(0));
    }
    assert!(peers.is_pending(honest));
}

#[test]
fn an_exempt_address_does_not_take_the_relay_away_either() {
    let mut peers = peers(Limits::new());
    let honest = accept(&mut peers, v4(1));
    for _ in 0..10_000 {
        peers.accept(Some(ip("127.0.0.1")), at(0));
    }
    assert_eq!(peers.stats().pending, 4096);
    assert!(peers.is_pending(honest), "the heaviest address gives way");
    // 410 new ones a second: a handshake of loopback makes progress for seconds without being hit.
    let local = peers.accept(Some(ip("127.0.0.1")), at(0)).id;
    for _ in 0..4094 {
        peers.accept(Some(ip("127.0.0.1")), at(0));
    }
    assert!(peers.is_pending(local));
    assert_eq!(peers.upgrade(local, at(0)), Ok(()));
    for _ in 0..4094 {
        peers.accept(Some(ip("127.0.0.1")), at(0));
    }
    assert!(peers.is_pending(local), "an upgrade is progress");
    assert!(peers.join(local).is_some());
}

#[test]
fn a_flood_from_many_addresses_evicts_the_oldest_without_progress() {
    let limits = Limits::new().total_pending(100).retained_sources(50);
    let mut peers = peers(limits);
    // Each from a /64 of its own.
    let flood = |number: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64));
    let honest = accept(&mut peers, v4(1));
    assert_eq!(peers.upgrade(honest, at(0)), Ok(()));
    for number in 0..99 {
        peers.accept(Some(flood(number)), at(0));
    }
    assert!(peers.is_pending(honest));
    assert!(peers.join(honest).is_some());
    for number in 0..100_000 {
        let Accepted { id, .. } = peers.accept(Some(flood(number)), at(0));
        if number % 3 == 0 {
            assert_eq!(peers.upgrade(id, at(0)), Ok(()));
        }
    }
    let stats = peers.stats();
    assert_eq!(stats.pending, 100);
    assert_eq!(stats.sources, 100 + 50 + 1, "pending, remembered, joined");
    assert_eq!(stats.evicted, 100_000 - 1);
}

#[test]
fn addresses_with_few_handshakes_do_not_give_way_to_one_with_many() {
    let mut peers = peers(Limits::new().total_pending(100));
    let few: Vec<_> = (0..16).map(|_| accept(&mut peers, v4(1))).collect();
    for _ in 0..84 {
        accept(&mut peers, v4(2));
    }
    for number in 0..60 {
        assert!(peers.accept(Some(v4(10 + number)), at(0)).evicted.is_some());
    }
    assert!(few.iter().all(|&id| peers.is_pending(id)));
}

#[test]
fn connections_of_an_address_are_limited_and_a_place_is_free_again_at_once() {
    let mut peers = peers(Limits::new().connections(2));
    let mut places = vec![];
    for _ in 0..2 {
        let id = accept(&mut peers, v4(1));
        assert_eq!(peers.upgrade(id, at(0)), Ok(()));
        assert_eq!(peers.upgrade(id, at(0)), Ok(()), "once is enough");
        places.push(peers.join(id).unwrap());
    }
    let third = accept(&mut peers, v4(1));
    let rejection = peers.upgrade(third, at(0)).unwrap_err();
    let from = Source::of(Some(v4(1)));
    assert_eq!(rejection, Rejection::Connections { from, limit: 2 });
    assert_eq!(
        rejection.to_string(),
        "too many connections from 192.0.2.1: at most 2"
    );
    let other = accept(&mut peers, v4(2));
    assert_eq!(peers.upgrade(other, at(0)), Ok(()));
    peers.leave(places.pop().unwrap(), at(0));
    assert_eq!(peers.upgrade(third, at(0)), Ok(()));
    // One that fails its handshake gives its place back, too.
    peers.remove(third, at(0));
    let fourth = accept(&mut peers, v4(1));
    assert_eq!(peers.upgrade(fourth, at(0)), Ok(()));
    assert!(peers.join(fourth).is_some());
}

#[test]
fn joins_of_an_address_are_limited_in_time_and_remembered_after_they_left() {
    let limit = RateLimit::new(2.0, 3).unwrap();
    let mut peers = peers(Limits::new().join_rate(Some(limit)));
    let mut join = |millis, expected: Result<(), Duration>| {
        let now = at(millis);
        let id = peers.accept(Some(v4(1)), now).id;
        match (peers.upgrade(id, now), expected) {
            (Ok(()), Ok(())) => {
                let place = peers.join(id).unwrap();
                peers.leave(place, now);
            }
            (Err(Rejection::JoinRate { retry_after, .. }), Err(wait)) => {
                assert_eq!(retry_after, wait);
                peers.remove(id, now);
            }
            (found, expected) => panic!("{found:?} instead of {expected:?} at {millis}"),
        }
    };
    for _ in 0..3 {
        join(0, Ok(()));
    }
    join(0, Err(Duration::from_millis(500)));
    join(499, Err(Duration::from_millis(1)));
    join(500, Ok(()));
    assert_eq!(peers.stats().sources, 1);
    let other = peers.accept(Some(v4(2)), at(10_000)).id;
    peers.remove(other, at(10_000));
    assert_eq!(peers.stats().sources, 0, "a full bucket is forgotten");
}

#[test]
fn a_connection_behind_a_proxy_counts_for_the_address_that_the_proxy_names() {
    let limits = Limits::new()
        .connections(1)
        .pending(2)
        .exempt(vec!["192.0.2.9/32".parse().unwrap()]);
    let mut peers = peers(limits);
    let pending: Vec<_> = (0..5).map(|_| accept(&mut peers, v4(9))).collect();
    assert_eq!(peers.identify(pending[0], v4(1), at(0)), None);
    assert_eq!(peers.identify(pending[1], v4(1), at(0)), None);
    assert_eq!(
        peers.identify(pending[2], v4(1), at(0)),
        Some(pending[0]),
        "it gives way at its own address"
    );
    assert_eq!(peers.identify(pending[0], v4(1), at(0)), None);
    assert_eq!(peers.upgrade(pending[1], at(0)), Ok(()));
    assert!(matches!(
        peers.upgrade(pending[2], at(0)),
        Err(Rejection::Connections { .. })
    ));
    // The proxy itself is exempt.
    assert_eq!(peers.upgrade(pending[3], at(0)), Ok(()));
    assert_eq!(peers.upgrade(pending[4], at(0)), Ok(()));
}

#[test]
fn sources_are_addresses_of_ipv4_and_networks_of_ipv6() {
    let same = |a: &str, b: &str| Source::of(Some(ip(a))) == Source::of(Some(ip(b)));
    assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
    assert!(same("192.0.2.1", "64:ff9b::192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
    assert!(!same("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"));
    assert!(same("2001:db8::1", "2001:db8::ffff:0:0:1"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert_eq!(Source::of(None).to_string(), "unknown");
    let limits = Limits::new();
    for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(limits.is_exempt(ip(exempt)), "{exempt}");
    }
    for limited in ["10.0.0.1", "::2", "::", "128.0.0.1"] {
        assert!(!limits.is_exempt(ip(limited)), "{limited}");
    }
}

#[test]
fn an_exempt_address_shares_no_limit_with_others_of_its_network() {
    let limits = Limits::new().connections(1);
    let mut peers = peers(limits);
    let stranger = accept(&mut peers, ip("::2"));
    assert_eq!(peers.upgrade(stranger, at(0)), Ok(()));
    for _ in 0..2 {
        let local = accept(&mut peers, ip("::1"));
        assert_eq!(peers.upgrade(local, at(0)), Ok(()));
    }
    let stranger = accept(&mut peers, ip("::2"));
    assert!(peers.upgrade(stranger, at(0)).is_err());
}

#[test]
fn when_the_system_is_out_of_descriptors_the_oldest_gives_way() {
    let mut peers = peers(Limits::new());
    assert_eq!(peers.shed(at(0)), None);
    let first = accept(&mut peers, v4(1));
    let second = accept(&mut peers, v4(2));
    assert_eq!(peers.shed(at(0)), Some(first));
    assert_eq!(peers.shed(at(0)), Some(second));
    assert_eq!(peers.shed(at(0)), None);
    // What is told of one that was evicted has no effect.
    peers.remove(first, at(0));
    assert_eq!(peers.upgrade(first, at(0)), Err(Rejection::Evicted));
    assert_eq!(peers.identify(first, v4(3), at(0)), None);
    assert_eq!(peers.join(first), None);
    assert_eq!(peers.stats().sources, 0);
}

#[test]
fn a_limit_of_zero_is_an_error() {
    for limits in [
        Limits::new().total_pending(0),
        Limits::new().pending(0),
        Limits::new().connections(0),
    ] {
        assert!(matches!(limits.build(), Err(ConfigError::Zero { .. })));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Accept(u32),
    Identify(usize, u32),
    Upgrade(usize),
    Join(usize),
    Leave(usize),
    Remove(usize),
    Shed,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..6).prop_map(Step::Accept),
        1 => (any::<usize>(), 0u32..6).prop_map(|(at, from)| Step::Identify(at, from)),
        4 => any::<usize>().prop_map(Step::Upgrade),
        3 => any::<usize>().prop_map(Step::Join),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Shed),
        2 => (0u64..3000).prop_map(Step::Wait),
    ]
}

/// The obvious way to do it: a vector in the order of progress.
#[derive(Default)]
struct Model {
    pending: Vec<(PendingId, u32, bool)>,
    joined: Vec<u32>,
    evicted: u64,
}

/// Address 0 is exempt.
const EXEMPT: u32 = 0;
const TOTAL: usize = 40;
const PER_ADDRESS: usize = 20;
const CONNECTIONS: usize = 3;
const FEW: usize = 16;

impl Model {
    fn pending_of(&self, from: u32) -> usize {
        self.pending.iter().filter(|entry| entry.1 == from).count()
    }

    fn connections_of(&self, from: u32) -> usize {
        let joining = self
            .pending
            .iter()
            .filter(|entry| entry.1 == from && entry.2);
        joining.count() + self.joined.iter().filter(|joined| **joined == from).count()
    }

    /// The candidates for an eviction after a newcomer from `newcomer`; empty if there is none.
    fn victims(&self, newcomer: u32) -> Vec<PendingId> {
        let oldest_of = |from| self.pending.iter().find(|entry| entry.1 == from);
        if newcomer != EXEMPT && self.pending_of(newcomer) > PER_ADDRESS {
            return oldest_of(newcomer)
                .map(|entry| entry.0)
                .into_iter()
                .collect();
        }
        if self.pending.len() <= TOTAL {
            return vec![];
        }
        self.victims_of_all()
    }

    fn victims_of_all(&self) -> Vec<PendingId> {
        let most = (0..6).map(|from| self.pending_of(from)).max().unwrap_or(0);
        if most > FEW {
            let heaviest = (0..6).filter(|&from| self.pending_of(from) == most);
            heaviest
                .filter_map(|from| self.pending.iter().find(|entry| entry.1 == from))
                .map(|entry| entry.0)
                .collect()
        } else {
            self.pending
                .first()
                .map(|entry| entry.0)
                .into_iter()
                .collect()
        }
    }

    fn check_evicted(&mut self, evicted: Option<PendingId>, victims: &[PendingId]) {
        match evicted {
            Some(id) => {
                assert!(victims.contains(&id), "{id:?} instead of {victims:?}");
                self.pending.retain(|entry| entry.0 != id);
                self.evicted += 1;
            }
            None => assert_eq!(victims, []),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_vector(steps in prop::collection::vec(step(), 0..200)) {
        let limits = Limits::new()
            .total_pending(TOTAL)
            .pending(PER_ADDRESS)
            .connections(CONNECTIONS)
            .join_rate(Some(RateLimit::new(1.0, 5).unwrap()))
            .retained_sources(2)
            .exempt(vec!["192.0.2.0/32".parse().unwrap()]);
        let mut peers = peers(limits);
        let mut model = Model::default();
        let mut places = vec![];
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Accept(from) => {
                    let Accepted { id, evicted, .. } = peers.accept(Some(v4(from)), now);
                    model.pending.push((id, from, false));
                    let victims = model.victims(from);
                    model.check_evicted(evicted, &victims);
                    prop_assert!(peers.is_pending(id), "a newcomer is admitted");
                }
                Step::Identify(which, from) if !model.pending.is_empty() => {
                    let which = which % model.pending.len();
                    let (id, _, has_place) = model.pending[which];
                    let evicted = peers.identify(id, v4(from), now);
                    if has_place {
                        prop_assert_eq!(evicted, None);
                    } else {
                        model.pending.remove(which);
                        model.pending.push((id, from, false));
                        let victims = model.victims(from);
                        model.check_evicted(evicted, &victims);
                    }
                }
                Step::Upgrade(which) if !model.pending.is_empty() => {
                    let which = which % model.pending.len();
                    let (id, from, has_place) = model.pending[which];
                    let is_full = model.connections_of(from) >= CONNECTIONS;
                    match peers.upgrade(id, now) {
                        Ok(()) if has_place => {}
                        Ok(()) => {
                            prop_assert!(from == EXEMPT || !is_full);
                            model.pending.remove(which);
                            model.pending.push((id, from, true));
                        }
                        Err(Rejection::Connections { .. }) => {
                            prop_assert!(from != EXEMPT && is_full);
                        }
                        Err(Rejection::JoinRate { retry_after, .. }) => {
                            prop_assert!(from != EXEMPT && !is_full);
                            prop_assert!(!retry_after.is_zero());
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                Step::Join(which) if !model.pending.is_empty() => {
                    let which = which % model.pending.len();
                    let (id, from, has_place) = model.pending[which];
                    let place = peers.join(id);
                    prop_assert_eq!(place.is_some(), has_place);
                    if let Some(place) = place {
                        model.pending.remove(which);
                        model.joined.push(from);
                        places.push(place);
                    }
                }
                Step::Leave(which) if !places.is_empty() => {
                    let which = which % places.len();
                    model.joined.remove(which);
                    peers.leave(places.remove(which), now);
                }
                Step::Remove(which) if !model.pending.is_empty() => {
                    let which = which % model.pending.len();
                    peers.remove(model.pending.remove(which).0, now);
                }
                Step::Shed => {
                    let victims = model.victims_of_all();
                    let evicted = peers.shed(now);
                    model.check_evicted(evicted, &victims);
                }
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
                Step::Identify(..)
                | Step::Upgrade(_)
                | Step::Join(_)
                | Step::Leave(_)
                | Step::Remove(_) => {}
            }
            let stats = peers.stats();
            prop_assert_eq!(stats.pending, model.pending.len());
            prop_assert_eq!(stats.evicted, model.evicted);
            let in_use = (0..6).filter(|&from| {
                model.pending_of(from) + model.connections_of(from) > 0
            });
            let in_use = in_use.count();
            prop_assert!((in_use..=in_use + 2).contains(&stats.sources), "{:?}", stats);
        }
        for place in places {
            peers.leave(place, now);
        }
        for (id, ..) in model.pending {
            peers.remove(id, now);
        }
        let later = now + Duration::from_secs(5);
        let last = peers.accept(None, later).id;
        peers.remove(last, later);
        prop_assert_eq!(peers.stats().sources, 0);
    }
}
