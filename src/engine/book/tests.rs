//! Tests of the address book: each rule, and random operations that must hold its invariants.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MIN: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(300);
const FAR: &str = "8.8.0.1";

#[expect(clippy::disallowed_methods, reason = "a clock has to begin somewhere")]
pub(super) fn start() -> Now {
    Now { instant: Instant::now(), unix: 1_700_000_000 }
}

fn later(now: Now, by: Duration) -> Now {
    Now { instant: now.instant + by, unix: now.unix + by.as_secs() as i64 }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn book() -> AddressBook {
    AddressBook::new(MIN, MAX)
}

fn heard(address: SocketAddr, last_seen: i64) -> HeardAddress {
    HeardAddress { address, services: Services::NETWORK, last_seen }
}

/// Global addresses, 200 of each /16.
fn many(range: Range<u32>) -> Vec<SocketAddr> {
    range
        .map(|n| SocketAddr::new([20 + (n / 51_200) as u8, (n / 200) as u8, 1, (n % 200) as u8].into(), 8333))
        .collect()
}

fn tell(book: &mut AddressBook, now: Now, source: &str, addresses: &[SocketAddr], last_seen: i64) -> usize {
    let told: Vec<_> = addresses.iter().map(|&address| heard(address, last_seen)).collect();
    book.hear(now, Some(ip(source)), &told)
}

fn pick(book: &mut AddressBook, now: Now, random: &mut Random) -> Option<SocketAddr> {
    book.choose(now, random, &BTreeSet::new(), |_| true)
}

/// Everything that is always true of a book.
fn check(book: &AddressBook) {
    assert!(book.len() <= MAX_ADDRESSES);
    let mut heard_of = 0;
    for (source, share) in &book.shares {
        assert!(!share.is_empty() && share.len() <= MAX_OF_SOURCE, "{source}: {}", share.len());
        heard_of += share.len();
    }
    let mut proven = 0;
    for (address, entry) in &book.entries {
        assert_eq!(*address, entry.saved.address);
        assert!(book.standings.contains(&entry.standing()), "{address}");
        match entry.class() {
            Class::Heard => assert!(book.shares[&entry.saved.source].contains(&entry.standing()), "{address}"),
            Class::Worked => proven += 1,
        }
        match entry.turn {
            Turn::Waiting(until) => assert!(book.waiting.contains(&(until, *address)), "{address}"),
            Turn::Due(place) => assert_eq!(book.due[entry.class() as usize].get(place), Some(address)),
        }
    }
    assert_eq!(book.standings.len(), book.len());
    assert_eq!(heard_of + proven, book.len());
    assert_eq!(book.waiting.len() + book.due[0].len() + book.due[1].len(), book.len());
}

#[test]
fn only_full_nodes_that_can_be_dialled_are_believed() {
    let (now, mut book) = (start(), book());
    for address in
        ["8.8.8.8:0", "0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "203.0.113.5:1", "[2001:db8::1]:1"]
    {
        assert_eq!(tell(&mut book, now, FAR, &[at(address)], now.unix), 0, "{address}");
        assert_eq!(book.hear(now, None, &[HeardAddress::of_seed(at(address))]), 0, "{address}");
    }
    for services in [Services::NONE, Services::BLOOM, Services::BITCOIN_CASH] {
        let told = HeardAddress { services, ..heard(at("8.8.8.8:8333"), now.unix) };
        assert_eq!(book.hear(now, Some(ip(FAR)), &[told]), 0, "{services}");
    }
    assert!(book.is_empty() && !book.take_changed());
    assert_eq!(tell(&mut book, now, FAR, &[at("8.8.8.8:8333"), at("[2600::1]:8333")], now.unix), 2);
    assert_eq!(tell(&mut book, now, FAR, &[at("[::ffff:8.8.8.8]:8333")], now.unix), 0, "known in another form");
    assert!(book.take_changed() && !book.take_changed());
    check(&book);
}

#[test]
fn nobody_outside_makes_us_dial_inside() {
    let now = start();
    let [global, private, loopback] = [at("8.8.8.8:1"), at("192.168.1.1:1"), at("127.0.0.1:1")];
    for (source, believed) in [
        (Some(FAR), vec![global]),
        (Some("2600::1"), vec![global]),
        (Some("203.0.113.1"), vec![global]),
        (Some("10.0.0.1"), vec![global, private]),
        (Some("fd00::1"), vec![global, private]),
        (Some("127.0.0.1"), vec![global, private, loopback]),
        (Some("::1"), vec![global, private, loopback]),
        (None, vec![global, private, loopback]),
    ] {
        let mut book = book();
        let told = [global, private, loopback].map(|address| heard(address, now.unix));
        assert_eq!(book.hear(now, source.map(ip), &told), believed.len(), "{source:?}");
        let known: BTreeSet<_> = book.snapshot().into_iter().map(|saved| saved.address).collect();
        assert_eq!(known, believed.into_iter().collect(), "{source:?}");
    }
}

#[test]
fn times_that_cannot_be_are_pulled_to_plausible_ones() {
    let (now, mut book) = (start(), book());
    for (claimed, taken) in [
        (now.unix - 10, now.unix - 10),
        (now.unix + CLOCK_TOLERANCE, now.unix),
        (now.unix + CLOCK_TOLERANCE + 1, now.unix - 5 * DAY),
        (i64::MAX, now.unix - 5 * DAY),
        (NO_TIME, now.unix - 5 * DAY),
        (0, now.unix - 5 * DAY),
        (i64::MIN, now.unix - 5 * DAY),
        (NO_TIME + 1, now.unix - 30 * DAY),
        (now.unix - 31 * DAY, now.unix - 30 * DAY),
    ] {
        let address = at("8.8.8.8:8333");
        assert_eq!(tell(&mut book, now, FAR, &[address], claimed), 1);
        assert_eq!(book.snapshot()[0].last_seen, taken, "{claimed}");
        book.forget(&address);
    }
    assert!(book.is_empty());
}

#[test]
fn news_of_a_known_address_only_refreshes_it() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    tell(&mut book, now, FAR, &[address], now.unix - 100);
    book.failed(now, &mut random, address);
    let bloom = HeardAddress { services: Services::NETWORK | Services::BLOOM, ..heard(address, now.unix - 50) };
    assert_eq!(book.hear(now, Some(ip("9.9.9.9")), &[bloom]), 0);
    let saved = book.snapshot()[0];
    assert_eq!(saved.services, Services::NETWORK | Services::BLOOM);
    assert_eq!((saved.last_seen, saved.failures), (now.unix - 50, 1));
    assert_eq!(saved.source, Source::of(Some(ip(FAR))), "the first source stays");
    assert_eq!(pick(&mut book, now, &mut random), None, "news do not end a back-off");
    tell(&mut book, now, FAR, &[address], now.unix - 70);
    assert_eq!(book.snapshot()[0], saved, "older news change nothing");
    book.worked(now, address, Services::NETWORK);
    book.hear(now, Some(ip(FAR)), &[bloom]);
    assert_eq!(book.snapshot()[0].services, Services::NETWORK, "its own word outweighs others'");
    check(&book);
}

#[test]
fn each_source_has_its_share() {
    let (now, mut book) = (start(), book());
    let share = MAX_OF_SOURCE;
    assert_eq!(tell(&mut book, now, "8.8.0.1", &many(0..1_500), now.unix - 9), share);
    assert_eq!(tell(&mut book, now, "8.8.200.1", &many(1_500..2_000), now.unix - 9), 0, "the same /16");
    assert_eq!(tell(&mut book, now, "8.9.0.1", &many(1_500..3_000), now.unix - 9), share);
    assert_eq!(tell(&mut book, now, "127.0.0.1", &many(3_000..5_000), now.unix - 9), share);
    assert_eq!(tell(&mut book, now, "127.0.0.2", &many(5_000..7_000), now.unix - 9), share, "another loopback");
    let seeds: Vec<_> = many(7_000..9_000).into_iter().map(HeardAddress::of_seed).collect();
    assert_eq!(book.hear(now, None, &seeds), share);
    assert_eq!(book.len(), 5 * share);
    // Fresher news of a full share push out its oldest, and nobody else's.
    assert_eq!(tell(&mut book, now, "8.8.0.1", &many(9_000..9_010), now.unix), 10);
    assert_eq!(book.shares[&Source::of(Some(ip("8.8.0.1")))].len(), share);
    assert_eq!(book.shares[&Source::of(Some(ip("8.9.0.1")))].len(), share);
    assert_eq!(tell(&mut book, now, "8.8.0.1", &many(9_010..9_020), now.unix - 10), 0, "older than all of them");
    check(&book);
}

#[test]
fn a_flood_of_lies_fills_the_book_and_pushes_out_nothing_that_worked() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let good = many(0..500);
    tell(&mut book, now, FAR, &good, now.unix - 20 * DAY);
    for &address in &good {
        book.worked(now, address, Services::NETWORK);
        book.failed(now, &mut random, address);
    }
    let honest = many(500..1_000);
    tell(&mut book, now, FAR, &honest, now.unix - DAY);
    for liar in 0..30 {
        let lies = many(1_000 + liar * 2_000..3_000 + liar * 2_000);
        tell(&mut book, now, &format!("9.{liar}.0.1"), &lies, now.unix);
        check(&book);
    }
    assert_eq!(book.len(), MAX_ADDRESSES);
    assert!(good.iter().all(|address| book.entries.contains_key(address)));
    // What works finds room in a full book.
    let new = at("30.1.1.1:8333");
    book.worked(now, new, Services::NETWORK);
    assert!(book.entries.contains_key(&new) && book.len() == MAX_ADDRESSES);
    check(&book);
}

#[test]
fn among_those_that_never_worked_failures_count_before_age() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let told = many(0..MAX_OF_SOURCE as u32);
    tell(&mut book, now, FAR, &told, now.unix - DAY);
    tell(&mut book, now, FAR, &told[1..], now.unix - 60);
    book.failed(now, &mut random, told[7]);
    let new = many(5_000..5_002);
    assert_eq!(tell(&mut book, now, FAR, &new[..1], now.unix - 120), 1);
    assert!(!book.entries.contains_key(&told[7]), "it failed");
    assert_eq!(tell(&mut book, now, FAR, &new[1..], now.unix - 120), 1);
    assert!(!book.entries.contains_key(&told[0]), "it is the oldest");
    check(&book);
}

#[test]
fn a_book_full_of_what_worked_gives_up_what_worked_longest_ago() {
    let (now, mut book) = (start(), book());
    let all = many(0..MAX_ADDRESSES as u32 + 1);
    for (i, &address) in all[1..].iter().enumerate() {
        book.worked(later(now, Duration::from_secs(1 + i as u64)), address, Services::NETWORK);
    }
    let now = later(now, Duration::from_secs(20_000));
    assert_eq!(tell(&mut book, now, FAR, &[at("30.1.1.1:8333")], now.unix), 0, "hearsay never displaces it");
    book.worked(now, all[0], Services::NETWORK);
    assert!(book.entries.contains_key(&all[0]) && !book.entries.contains_key(&all[1]));
    assert_eq!(book.len(), MAX_ADDRESSES);
    check(&book);
}

#[test]
fn waits_double_from_the_least_to_the_most() {
    let (mut now, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    book.worked(now, address, Services::NETWORK);
    for failure in 0..20 {
        assert_eq!(pick(&mut book, now, &mut random), Some(address));
        book.failed(now, &mut random, address);
        let due = book.next_due(now).unwrap();
        let wait = due - now.instant;
        let whole = (MIN * 2_u32.pow(failure.min(15))).min(MAX);
        assert!(wait >= whole.mul_f64(0.75) && wait <= whole.mul_f64(1.25).min(MAX), "{failure}: {wait:?}");
        let just_before = later(now, wait - Duration::from_nanos(1));
        assert_eq!(pick(&mut book, just_before, &mut random), None);
        assert_eq!(book.next_due(just_before), Some(due));
        now = later(now, wait);
        assert_eq!(book.next_due(now), None, "due already");
        check(&book);
    }
}

#[test]
fn a_peer_that_accepts_and_drops_is_dialled_ever_less_often() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    for _ in 0..6 {
        book.worked(now, address, Services::NETWORK);
        book.failed(now, &mut random, address);
    }
    assert!(book.next_due(now).unwrap() - now.instant > 20 * MIN);
    assert_eq!(book.snapshot()[0].failures, 1);
    // A connection that lasted ends this.
    book.worked(now, address, Services::NETWORK);
    book.lost(now, &mut random, address);
    assert!(book.next_due(now).unwrap() - now.instant < 2 * MIN);
    assert_eq!(book.snapshot()[0].failures, 0);
    check(&book);
}

#[test]
fn a_lost_connection_is_no_failure_but_waits_once() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    book.worked(now, address, Services::NETWORK);
    let now = later(now, Duration::from_secs(3_600));
    book.lost(now, &mut random, address);
    assert_eq!(pick(&mut book, now, &mut random), None);
    let wait = book.next_due(now).unwrap() - now.instant;
    assert!(wait >= MIN.mul_f64(0.75) && wait <= MIN.mul_f64(1.25), "{wait:?}");
    assert_eq!(pick(&mut book, later(now, wait), &mut random), Some(address));
    let saved = book.snapshot()[0];
    assert_eq!((saved.failures, saved.last_worked), (0, Some(now.unix)), "it worked until then");
}

#[test]
fn what_never_worked_is_forgotten_after_ten_failures() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    tell(&mut book, now, FAR, &[address], now.unix);
    (0..9).for_each(|_| book.failed(now, &mut random, address));
    book.network_works(now);
    assert_eq!(book.len(), 1);
    book.failed(now, &mut random, address);
    assert!(book.is_empty());
    check(&book);
}

#[test]
fn nothing_is_forgotten_while_our_own_network_may_be_down() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let (address, other) = (at("8.8.8.8:8333"), at("9.9.9.9:8333"));
    book.worked(now, other, Services::NETWORK);
    tell(&mut book, now, FAR, &[address], now.unix);
    let now = later(now, MIN);
    (0..100).for_each(|_| book.failed(now, &mut random, address));
    assert_eq!(book.len(), 2);
    book.worked(now, other, Services::NETWORK);
    book.failed(now, &mut random, address);
    assert_eq!(book.len(), 1);
}

#[test]
fn what_worked_is_forgotten_only_after_a_week_without() {
    let (start, mut book, mut random) = (start(), book(), Random::new(1));
    let address = at("8.8.8.8:8333");
    book.worked(start, address, Services::NETWORK);
    let fail = |book: &mut AddressBook, random: &mut Random, now| {
        book.network_works(now);
        (0..10).for_each(|_| book.failed(now, random, address));
    };
    fail(&mut book, &mut random, later(start, Duration::from_secs(WEEK as u64)));
    assert_eq!(book.len(), 1);
    fail(&mut book, &mut random, later(start, Duration::from_secs(WEEK as u64 + 1)));
    assert!(book.is_empty());
}

#[test]
fn an_outage_of_ours_is_forgiven() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let addresses = many(0..50);
    tell(&mut book, now, FAR, &addresses, now.unix);
    let bad = addresses[0];
    (0..6).for_each(|_| book.failed(now, &mut random, bad));
    let outage = later(now, Duration::from_secs(100));
    for &address in &addresses {
        (0..9).for_each(|_| book.failed(outage, &mut random, address));
    }
    let back = later(outage, Duration::from_secs(10));
    book.forgive(back, &mut random, outage.instant);
    check(&book);
    let failures: u32 = book.snapshot().iter().map(|saved| saved.failures).sum();
    assert_eq!(failures, 6, "those from before the outage stay");
    let ends: BTreeSet<Instant> = book.waiting.iter().map(|&(at, _)| at).collect();
    assert_eq!(ends.len(), addresses.len(), "not all at once");
    let soon = later(back, 2 * MIN);
    let mut dialled = BTreeSet::new();
    while let Some(address) = book.choose(soon, &mut random, &BTreeSet::new(), |a| !dialled.contains(a)) {
        dialled.insert(address);
    }
    assert_eq!(dialled.len(), 49);
    assert!(!dialled.contains(&bad));
    book.forgive(back, &mut random, back.instant);
    assert_eq!(book.snapshot().iter().map(|saved| saved.failures).sum::<u32>(), 6, "nothing failed since");
}

#[test]
fn other_groups_are_chosen_while_there_are_any() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let crowd = many(0..190);
    crowd.iter().for_each(|&address| book.worked(now, address, Services::NETWORK));
    let lone = at("30.1.1.1:8333");
    tell(&mut book, now, FAR, &[lone], now.unix);
    let groups: BTreeSet<_> = AddressGroup::of(&crowd[0].ip()).into_iter().collect();
    for _ in 0..50 {
        assert_eq!(book.choose(now, &mut random, &groups, |_| true), Some(lone), "though it never worked");
    }
    let chosen = book.choose(now, &mut random, &groups, |address| *address != lone);
    assert!(chosen.is_some_and(|address| crowd.contains(&address)), "there is no other choice");
    assert_eq!(book.choose(now, &mut random, &groups, |_| false), None);
    // Many peers on one machine are no crowd.
    let local = at("127.0.0.1:8333");
    book.hear(now, None, &[HeardAddress::of_seed(local)]);
    assert_eq!(book.choose(now, &mut random, &groups, |address| *address != lone), Some(local));
}

#[test]
fn choices_prefer_what_worked_and_spread_evenly() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let all = many(0..40);
    tell(&mut book, now, FAR, &all[20..], now.unix);
    all[..20].iter().for_each(|&address| book.worked(now, address, Services::NETWORK));
    let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for _ in 0..20_000 {
        *counts.entry(pick(&mut book, now, &mut random).unwrap()).or_default() += 1;
    }
    for (i, address) in all.iter().enumerate() {
        let expected = if i < 20 { 800 } else { 200 };
        let count = counts[address];
        assert!(count > expected * 3 / 4 && count < expected * 5 / 4, "{address}: {count}, expected {expected}");
    }
}

#[test]
fn those_that_failed_less_are_preferred() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let all = many(0..2);
    tell(&mut book, now, FAR, &all, now.unix);
    (0..3).for_each(|_| book.failed(now, &mut random, all[0]));
    let now = later(now, MAX);
    let failing = (0..900).filter(|_| pick(&mut book, now, &mut random) == Some(all[0])).count();
    assert!((50..200).contains(&failing), "{failing}, expected a ninth");
}

#[test]
fn rare_choices_are_found_evenly_too() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    let all = many(0..MAX_OF_SOURCE as u32);
    tell(&mut book, now, FAR, &all, now.unix);
    let rare: BTreeSet<_> = [all[3], all[500], all[999]].into();
    let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for _ in 0..600 {
        let chosen = book.choose(now, &mut random, &BTreeSet::new(), |address| rare.contains(address));
        *counts.entry(chosen.unwrap()).or_default() += 1;
    }
    assert!(rare.iter().all(|address| (140..260).contains(&counts[address])), "{counts:?}");
}

#[test]
fn hearing_with_a_full_book_stays_cheap() {
    let (now, mut book) = (start(), book());
    for source in 0..10 {
        let told = many(source * 1_000..(source + 1) * 1_000);
        tell(&mut book, now, &format!("9.{source}.0.1"), &told, now.unix - DAY);
    }
    assert_eq!(book.len(), MAX_ADDRESSES);
    let began = start().instant;
    for message in 0..100 {
        let told = many(10_000 + message * 1_000..11_000 + message * 1_000);
        let source = format!("10.{message}.0.1");
        assert_eq!(tell(&mut book, now, &source, &told, now.unix - DAY + i64::from(message) + 1), 1_000);
    }
    // A hundred thousand evictions: a scan of the book for each would be a billion steps.
    let took = start().instant - began;
    assert!(took < Duration::from_secs(30), "{took:?}");
    check(&book);
}

#[test]
fn a_restored_book_is_the_saved_one_within_the_bounds() {
    let (now, mut book, mut random) = (start(), book(), Random::new(1));
    tell(&mut book, now, FAR, &many(0..700), now.unix - DAY);
    tell(&mut book, now, "127.0.0.1", &[at("127.0.0.1:8333"), at("[fd00::1]:8333")], now.unix - 3);
    many(100..300).into_iter().for_each(|address| book.worked(now, address, Services::NETWORK | Services::BLOOM));
    many(250..400).into_iter().for_each(|address| book.failed(now, &mut random, address));
    let saved = book.snapshot();
    let mut restored = self::book();
    restored.restore(now, saved.clone());
    assert_eq!(restored.snapshot(), saved);
    assert!(!restored.take_changed(), "there is nothing to save");
    assert_eq!(restored.next_due(now), None, "all are due");
    check(&restored);

    let one = saved[0];
    let mut bounded = self::book();
    let too_many = many(0..30_000).into_iter().map(|address| SavedAddress { address, ..one });
    bounded.restore(now, too_many);
    assert_eq!(bounded.len(), MAX_OF_SOURCE);
    let nonsense = ["0.0.0.0:1", "8.8.8.8:0", "203.0.113.1:1"];
    bounded.restore(now, nonsense.map(|address| SavedAddress { address: at(address), ..one }));
    assert_eq!(bounded.len(), MAX_OF_SOURCE);
    let ahead = SavedAddress { address: at("30.1.1.1:1"), last_worked: Some(i64::MAX), last_seen: i64::MAX, ..one };
    bounded.restore(now, [ahead, ahead]);
    let back = bounded.snapshot().into_iter().find(|saved| saved.address == ahead.address).unwrap();
    assert_eq!((back.last_worked, back.last_seen), (Some(now.unix), now.unix - 5 * DAY));
    check(&bounded);
}

#[derive(Clone, Debug)]
enum Step {
    Hear { source: u8, from: u16, count: u16, age: u32 },
    HearSeeds { from: u16, count: u16 },
    Dial { succeeds: bool },
    Worked { n: u16 },
    Failed { n: u16, times: u8 },
    Lost { n: u16 },
    Forget { n: u16 },
    Forgive { ago: u32 },
    Wait { millis: u32 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The addresses overlap, so that most operations meet what is there.
    let n = || 0..12_000_u16;
    let step = prop_oneof![
        4 => (0..40_u8, n(), 0..1_500_u16, 0..40 * DAY as u32)
            .prop_map(|(source, from, count, age)| Step::Hear { source, from, count, age }),
        1 => (n(), 0..1_500_u16).prop_map(|(from, count)| Step::HearSeeds { from, count }),
        6 => any::<bool>().prop_map(|succeeds| Step::Dial { succeeds }),
        2 => n().prop_map(|n| Step::Worked { n }),
        2 => (n(), 1..15_u8).prop_map(|(n, times)| Step::Failed { n, times }),
        2 => n().prop_map(|n| Step::Lost { n }),
        1 => n().prop_map(|n| Step::Forget { n }),
        1 => (0..400_000_u32).prop_map(|ago| Step::Forgive { ago }),
        3 => (0..400_000_u32).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..40)
}

/// Runs the steps; returns what was dialled. `due` is the test's own account of when each address may be dialled.
fn run(start: Now, seed: u64, steps: &[Step]) -> Vec<Option<SocketAddr>> {
    let (mut now, mut book, mut random) = (start, book(), Random::new(seed));
    let mut due: BTreeMap<SocketAddr, Instant> = BTreeMap::new();
    let mut dialled = Vec::new();
    let least = MIN.mul_f64(0.75);
    for step in steps {
        let worked: BTreeSet<SocketAddr> = book.due[Class::Worked as usize].iter().copied().collect();
        match *step {
            Step::Hear { source, from, count, age } => {
                let (from, count) = (u32::from(from), u32::from(count));
                let seen = now.unix - i64::from(age);
                let told = many(from..from + count);
                let new = tell(&mut book, now, &format!("9.{source}.0.1"), &told, seen);
                assert!(new <= told.len());
                assert!(worked.iter().all(|address| book.entries.contains_key(address)), "hearsay displaced it");
            }
            Step::HearSeeds { from, count } => {
                let (from, count) = (u32::from(from), u32::from(count));
                let told: Vec<_> = many(from..from + count).into_iter().map(HeardAddress::of_seed).collect();
                book.hear(now, None, &told);
            }
            Step::Dial { succeeds } => {
                let chosen = pick(&mut book, now, &mut random);
                dialled.push(chosen);
                if let Some(address) = chosen {
                    assert!(due.get(&address).is_none_or(|&at| at <= now.instant), "{address} before its back-off");
                    if succeeds {
                        book.worked(now, address, Services::NETWORK);
                        assert!(book.entries.contains_key(&address));
                    } else {
                        book.failed(now, &mut random, address);
                        due.insert(address, now.instant + least);
                    }
                }
            }
            Step::Worked { n } => {
                let address = many(u32::from(n)..u32::from(n) + 1)[0];
                book.worked(now, address, Services::NETWORK);
                due.remove(&address);
            }
            Step::Failed { n, times } => {
                let address = many(u32::from(n)..u32::from(n) + 1)[0];
                for _ in 0..times {
                    book.failed(now, &mut random, address);
                    if book.entries.contains_key(&address) {
                        due.insert(address, now.instant + least);
                    } else {
                        due.remove(&address);
                    }
                }
            }
            Step::Lost { n } => {
                let address = many(u32::from(n)..u32::from(n) + 1)[0];
                book.lost(now, &mut random, address);
                if book.entries.contains_key(&address) {
                    due.insert(address, now.instant + least);
                }
            }
            Step::Forget { n } => {
                let address = many(u32::from(n)..u32::from(n) + 1)[0];
                book.forget(&address);
                assert!(!book.entries.contains_key(&address));
            }
            Step::Forgive { ago } => {
                let since = now.instant.checked_sub(Duration::from_millis(ago.into())).unwrap_or(start.instant);
                book.forgive(now, &mut random, since);
            }
            Step::Wait { millis } => now = later(now, Duration::from_millis(millis.into())),
            Step::Restart => {
                let saved = book.snapshot();
                book = self::book();
                book.restore(now, saved.clone());
                assert_eq!(book.len(), saved.len());
                due.clear();
            }
        }
        // What was forgotten and heard of again begins anew.
        due.retain(|address, _| book.entries.contains_key(address));
        check(&book);
        if let Some(at) = book.next_due(now) {
            assert!(at > now.instant);
        }
    }
    dialled
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, the caps hold, the indexes agree, nothing is chosen before its back-off is over, hearsay
    /// displaces nothing that worked, and the same seed makes the same choices.
    #[test]
    fn random_operations_hold_the_invariants(seed in any::<u64>(), steps in steps()) {
        let now = start();
        prop_assert_eq!(run(now, seed, &steps), run(now, seed, &steps));
    }
}
