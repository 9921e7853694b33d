//! What can befall a client, seed by seed; after each scenario everything is as it should be again.

use super::*;

/// The nodes, from which a scenario is made.
fn nodes(seed: u64) -> Vec<Node> {
    town(&mut Dice::new(!seed), NODES)
}

/// A scenario of a seed, which has run.
type Play = fn(u64, bool) -> Simulation;

/// Plays a scenario with many seeds; the same seed is the same again.
fn play_all(name: &str, play: Play) {
    for seed in 1..=seeds() {
        let is_logged = seed == 1;
        let (played, back) = play_out(play, seed, is_logged);
        println!(
            "{name} {seed}: target after {back:?}, {} dials, {} in a second, {:?}",
            played.observer.dials, played.observer.most_dials, played.tally
        );
        if is_logged {
            let (again, _) = play_out(play, seed, is_logged);
            let [first, second] = [played, again].map(|played| played.log.unwrap_or_default());
            assert!(first.len() > 100, "{} lines", first.len());
            let differs = first.iter().zip(&second).find(|(first, second)| first != second);
            assert_eq!(differs, None, "seed {seed}");
            assert_eq!(first.len(), second.len(), "seed {seed}");
        }
    }
}

/// Plays a scenario and lets the network come to rest; gives how long it took until the target was reached then.
fn play_out(play: Play, seed: u64, is_logged: bool) -> (Simulation, Duration) {
    let mut simulation = play(seed, is_logged);
    simulation.calm();
    let back = simulation.until_target(60 * SECOND);
    (simulation, back)
}

/// Seeds of each scenario: as many as the environment names.
fn seeds() -> u64 {
    std::env::var("CONDUIT_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

fn simulation(seed: u64, is_logged: bool, config: Config, nodes: Vec<Node>) -> Simulation {
    let mut simulation = Simulation::new(seed, config, nodes);
    simulation.log = is_logged.then(Vec::new);
    simulation
}

/// Makes every so-many-th node, from one of them on, something else.
fn change(nodes: &mut [Node], first: usize, each: usize, change: impl Fn(&mut Node)) {
    nodes.iter_mut().skip(first).step_by(each).for_each(change);
}

#[test]
fn seeds_alone_are_enough_to_begin_with() {
    play_all("calm", |seed, is_logged| {
        let mut simulation = simulation(seed, is_logged, config(), nodes(seed));
        simulation.call_every(5 * SECOND);
        simulation.broadcast_at(SECOND);
        simulation.start();
        assert!(simulation.until_target(20 * SECOND) < 10 * SECOND);
        let groups: BTreeSet<_> = simulation.observer.groups().into_iter().collect();
        assert_eq!(groups.len(), 8, "there are seeds enough for groups of their own");
        let dials = simulation.observer.dials;
        simulation.pass(2_000 * SECOND);
        assert_eq!(simulation.observer.dials, dials, "nobody is dialled without need");
        assert_eq!(simulation.count(|event| matches!(event, Event::NoPeers)), 0);
        assert_eq!(simulation.failures(), 0, "{:?}", simulation.tally);
        simulation
    });
}

#[test]
fn nodes_that_come_and_go_are_replaced() {
    play_all("churn", |seed, is_logged| {
        let mut simulation = simulation(seed, is_logged, config(), nodes(seed));
        simulation.call_every(3 * SECOND);
        simulation.broadcast_at(SECOND);
        simulation.churn(Churn { up: 200 * SECOND, down: 100 * SECOND }, |_| true);
        simulation.start();
        simulation.pass(1_000 * SECOND);
        let Tally { ready, looks, answered, .. } = simulation.tally;
        assert!(ready >= 7 * looks, "{} peers on average", ready as f64 / looks as f64);
        assert!(simulation.failures() * 100 <= answered, "{:?}", simulation.tally);
        simulation
    });
}

#[test]
fn floods_of_lying_addresses_do_not_keep_us_from_honest_nodes() {
    play_all("flood", |seed, is_logged| {
        let mut nodes = nodes(seed);
        change(&mut nodes, 0, 2, |node| node.tells = Tells::Dead);
        change(&mut nodes, 1, 6, |node| node.tells = Tells::Private);
        change(&mut nodes, 2, 6, |node| node.tells = Tells::OtherChain);
        change(&mut nodes, 3, 12, |node| node.chain = Chain::Other);
        change(&mut nodes, 9, 24, |node| node.chain = Chain::OtherAgent);
        change(&mut nodes, 21, 24, |node| node.chain = Chain::Pruned);
        let mut simulation = simulation(seed, is_logged, config(), nodes);
        simulation.call_every(10 * SECOND);
        simulation.churn(Churn { up: 300 * SECOND, down: 100 * SECOND }, |_| true);
        simulation.start();
        simulation.pass(1_000 * SECOND);
        assert!(simulation.tally.most_addresses > 1_000, "there were floods: {:?}", simulation.tally);
        simulation
    });
}

#[test]
fn nodes_on_other_chains_are_never_used() {
    play_all("chains", |seed, is_logged| {
        let mut nodes = nodes(seed);
        change(&mut nodes, 0, 9, |node| node.chain = Chain::Other);
        change(&mut nodes, 1, 9, |node| node.chain = Chain::OtherAgent);
        change(&mut nodes, 2, 9, |node| node.chain = Chain::Nonsense);
        change(&mut nodes, 3, 18, |node| node.chain = Chain::Pruned);
        let mut simulation = simulation(seed, is_logged, config(), nodes);
        simulation.call_every(5 * SECOND);
        simulation.broadcast_at(SECOND);
        simulation.churn(Churn { up: 200 * SECOND, down: 100 * SECOND }, |_| true);
        simulation.start();
        simulation.pass(1_000 * SECOND);
        let is_strange = |event: &Event| {
            matches!(event, Event::Refused { reason: DisconnectReason::WrongChain, .. })
                || matches!(event, Event::Refused { reason: DisconnectReason::OtherChain { .. }, .. })
        };
        assert!(simulation.count(is_strange) > 0, "some were met");
        simulation
    });
}

#[test]
fn slow_nodes_are_left_alone() {
    play_all("slow", |seed, is_logged| {
        let mut nodes = nodes(seed);
        change(&mut nodes, 0, 2, |node| node.latency = 2 * SECOND + 10 * node.latency);
        let mut simulation = simulation(seed, is_logged, config(), nodes);
        simulation.call_every(500 * MILLISECOND);
        simulation.start();
        simulation.pass(500 * SECOND);
        let Tally { answered, by_slow, .. } = simulation.tally;
        assert_eq!(simulation.failures(), 0, "{:?}", simulation.tally);
        assert!(by_slow * 50 <= answered, "{:?}", simulation.tally);
        simulation
    });
}

#[test]
fn nodes_in_initial_block_download_are_used_once_they_are_done() {
    play_all("sync", |seed, is_logged| {
        let mut nodes = nodes(seed);
        for (node, n) in nodes.iter_mut().zip(0..) {
            if n % 3 != 0 {
                node.chain = Chain::Syncing((300 + n) * SECOND);
            }
        }
        let mut simulation = simulation(seed, is_logged, config(), nodes);
        simulation.call_every(5 * SECOND);
        simulation.broadcast_at(SECOND);
        simulation.start();
        simulation.pass(250 * SECOND);
        let unverified = simulation.count(|event| matches!(event, Event::Unverified { .. }));
        assert!(unverified > 4, "{unverified}");
        let early = simulation.engine.ready_count();
        simulation.pass(600 * SECOND);
        let late = simulation.engine.ready_count();
        assert!(late >= 8.max(early), "{early}, later {late}");
        assert_eq!(simulation.failures(), 0, "{:?}", simulation.tally);
        simulation
    });
}

#[test]
fn an_outage_of_our_own_link_is_nobody_elses_fault() {
    play_all("outage", |seed, is_logged| {
        let mut simulation = simulation(seed, is_logged, config(), nodes(seed));
        simulation.call_every(5 * SECOND);
        simulation.start();
        simulation.until_target(20 * SECOND);
        simulation.pass(300 * SECOND);
        let known = simulation.book_len();
        simulation.set_link(false);
        simulation.pass(Duration::from_secs(200 + 100 * (seed % 5)));
        assert_eq!(simulation.engine.ready_count(), 0);
        let dials = simulation.observer.dials;
        simulation.pass(60 * SECOND);
        assert!(simulation.observer.dials - dials <= 100, "{}", simulation.observer.dials - dials);
        simulation.set_link(true);
        let back = simulation.until_target(60 * SECOND);
        println!("outage {seed}: target after {back:?}");
        // One connection may linger while every dial fails at once.
        assert!(simulation.observer.most_dials <= 40, "{} dials in a second", simulation.observer.most_dials);
        assert_eq!(simulation.book_len(), known, "nobody is forgotten");
        assert_eq!(simulation.failed_addresses(), 0, "nobody is blamed");
        assert_eq!(simulation.count(|event| matches!(event, Event::NoPeers)), 1);
        assert_eq!(simulation.count(|event| matches!(event, Event::NetworkBack)), 1);
        simulation
    });
}

#[test]
fn named_peers_are_kept_besides_those_found() {
    play_all("named", |seed, is_logged| {
        let mut nodes = nodes(seed);
        change(&mut nodes, 0, 3, |node| node.chain = Chain::Other);
        let named = [0, 1, 2, 4, 5].map(|place: usize| nodes[place].address);
        nodes[2].is_up = false;
        nodes[4].chain = Chain::Pruned;
        nodes[5].keeps_for = Some(5 * SECOND);
        let mut simulation = simulation(seed, is_logged, config().discover(true), nodes);
        simulation.name_peers(&named);
        simulation.call_every(5 * SECOND);
        simulation.churn(Churn { up: 300 * SECOND, down: 100 * SECOND }, |place| place > 5);
        simulation.start();
        simulation.pass(1_000 * SECOND);
        let peers = simulation.engine.peers(simulation.now);
        let kept: Vec<SocketAddr> =
            peers.iter().filter(|info| info.is_named).filter_map(|info| info.address.socket_addr()).collect();
        assert_eq!(kept.iter().collect::<BTreeSet<_>>(), named.iter().collect::<BTreeSet<_>>());
        let state = |place: usize| {
            peers.iter().find(|info| info.address.socket_addr() == Some(named[place])).expect("it is kept").state
        };
        assert_eq!(state(1), crate::peer::PeerState::Ready);
        simulation
    });
}

#[test]
fn everything_together_does_no_harm() {
    play_all("all", |seed, is_logged| {
        let mut nodes = nodes(seed);
        change(&mut nodes, 0, 10, |node| node.chain = Chain::Other);
        change(&mut nodes, 1, 10, |node| node.chain = Chain::OtherAgent);
        change(&mut nodes, 2, 10, |node| node.chain = Chain::Nonsense);
        change(&mut nodes, 3, 10, |node| node.chain = Chain::Pruned);
        change(&mut nodes, 4, 10, |node| node.chain = Chain::Syncing(500 * SECOND));
        change(&mut nodes, 5, 10, |node| node.keeps_for = Some(3 * SECOND));
        change(&mut nodes, 6, 20, |node| node.tells = Tells::Dead);
        change(&mut nodes, 16, 20, |node| node.tells = Tells::OtherChain);
        change(&mut nodes, 17, 20, |node| node.tells = Tells::Private);
        change(&mut nodes, 8, 10, |node| node.latency += 3 * SECOND);
        let mut simulation = simulation(seed, is_logged, config(), nodes);
        simulation.call_every(3 * SECOND);
        simulation.broadcast_at(SECOND);
        simulation.churn(Churn { up: 300 * SECOND, down: 150 * SECOND }, |_| true);
        simulation.outage(400 * SECOND, 200 * SECOND);
        simulation.start();
        simulation.pass(1_200 * SECOND);
        simulation
    });
}

const NODES: usize = 300;
