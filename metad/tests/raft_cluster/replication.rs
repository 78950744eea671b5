//! Elections, replication and reads: what a majority goes on with, and what a minority must not.

use super::node::{Node, PATIENCE, World, eventually, leader};
use std::time::{Duration, Instant};
use ullage_metad::Error;
use ullage_metad::raft::GroupConfig;

#[test]
fn what_is_acknowledged_is_on_all_nodes_and_read_on_any() {
    let world = World::default();
    let nodes = world.cluster(3);
    let led = leader(&nodes);
    for round in 0..20 {
        let text = format!("value {round}");
        nodes[led].put_soon("key", &text);
        for node in &nodes {
            let found = node.get("key").unwrap();
            assert_eq!(
                found.as_deref(),
                Some(text.as_bytes()),
                "round {round}, node {}",
                node.number
            );
        }
    }
    let follower = &nodes[(led + 1) % 3];
    let refused = follower.put("key", "elsewhere");
    let Err(Error::NotLeader { leader: Some(told) }) = refused else {
        panic!("a follower took a proposal: {refused:?}");
    };
    assert_eq!(told, nodes[led].address);
}

#[test]
fn a_lost_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let mut written = 0;
    let mut took = Vec::new();
    for round in 0..3 {
        let led = leader(&nodes);
        for _ in 0..20 {
            nodes[led].put_soon(&format!("k{written}"), "x");
            written += 1;
        }
        let lost = nodes.remove(led);
        let number = lost.number;
        let since = Instant::now();
        lost.kill();
        let led = leader(&nodes);
        nodes[led].put_soon("after", &format!("round {round}"));
        took.push(since.elapsed());
        for at in 0..written {
            assert!(
                nodes[led].applied(&format!("k{at}")).is_some(),
                "k{at} is lost in round {round}"
            );
        }
        nodes.push(world.start(number, &first[number], &first));
        nodes.last().unwrap().ready();
    }
    // The middle one: a machine that stands still itself moves one of them.
    took.sort();
    assert!(took[1] < Duration::from_secs(5), "writes resumed after {took:?}");
    assert!(took[2] < Duration::from_secs(15), "writes resumed after {took:?}");
    for node in &nodes {
        eventually("the returned nodes have everything", || {
            (0..written).all(|at| node.applied(&format!("k{at}")).is_some())
        });
    }
}

#[test]
fn a_minority_serves_no_read_and_no_write() {
    let world = World {
        patience: Duration::from_secs(2),
        ..World::default()
    };
    let nodes = world.cluster(3);
    let led = leader(&nodes);
    nodes[led].put_soon("key", "old");
    let others: Vec<usize> = (0..3).filter(|number| *number != led).collect();
    for other in &others {
        world.cuts.cut(led, *other);
    }
    // The old leader may still believe that it leads, but nobody confirms it.
    let unread = nodes[led].get("key");
    assert!(
        unread.is_err(),
        "a minority answered a linearizable read: {unread:?}"
    );
    let unwritten = nodes[led].put("key", "lost?");
    let unknown = matches!(
        unwritten,
        Err(Error::OutcomeUnknown { .. } | Error::NotLeader { .. } | Error::LeaderNotReady)
    );
    assert!(unknown, "a minority took a write: {unwritten:?}");
    let majority: Vec<&Node> = others.iter().map(|number| &nodes[*number]).collect();
    eventually("the majority elects a leader and writes", || {
        majority
            .iter()
            .any(|node| node.group.leads() && node.put("key", "new").is_ok())
    });
    for node in &majority {
        eventually("the majority reads it", || {
            node.get("key")
                .is_ok_and(|found| found.as_deref() == Some(b"new"))
        });
    }
    let stale = nodes[led].get("key");
    assert!(stale.is_err(), "the deposed leader served {stale:?}");
    world.cuts.heal();
    eventually("the old leader follows", || {
        nodes[led]
            .get("key")
            .is_ok_and(|found| found.as_deref() == Some(b"new"))
    });
}

#[test]
fn entries_go_out_before_earlier_ones_are_answered() {
    let world = World::default();
    let nodes = world.cluster(3);
    let led = leader(&nodes);
    let commands: Vec<_> = (0..2000)
        .map(|at| super::support::put(format!("k{at}").as_bytes(), &[1; 200]))
        .collect();
    // Where the leader's own disk is the slowest, all that waits goes out at once.
    eventually("a second request goes out before the first is answered", || {
        let before = nodes[led].group.metrics().entries.get();
        let answers = nodes[led].run(nodes[led].proposer.propose_many(commands.clone()));
        assert!(answers.iter().all(Result::is_ok));
        assert!(nodes[led].group.metrics().entries.get() - before >= 2000);
        nodes[led].group.metrics().appends_in_flight_most.get() > 1
    });
    for node in &nodes {
        eventually("every node has them", || node.applied("k1999").is_some());
    }
}

#[test]
fn a_follower_in_a_black_hole_holds_up_nobody() {
    // Nobody calls an election for want of a processor or a disk, and the lost one has the time to call some.
    let patient = World::default();
    let world = World {
        config: GroupConfig {
            election_min_ms: 1_500,
            election_max_ms: 2_000,
            ..patient.config
        },
        patience: PATIENCE,
        ..patient
    };
    let nodes = world.cluster(3);
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let term = nodes[led].group.status().term;
    let lost = &nodes[(led + 1) % 3];
    let other = &nodes[(led + 2) % 3];
    world.cuts.cut(led, lost.number);
    world.cuts.cut(other.number, lost.number);
    let mut took = Vec::new();
    for at in 0..40 {
        let since = Instant::now();
        nodes[led].put(&format!("k{at}"), "x").unwrap();
        took.push(since.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    took.sort();
    assert!(took[37] < Duration::from_secs(2), "writes took {took:?}");
    assert!(took[39] < Duration::from_secs(5), "a write was held up: {took:?}");
    assert_eq!(
        nodes[led].group.status().term,
        term,
        "the lost one disturbed the others"
    );
    assert!(lost.get("before").is_err(), "the lost one serves reads");
    world.cuts.heal();
    eventually("it catches up", || lost.applied("k39").is_some());
    assert_eq!(
        nodes[led].group.status().term,
        term,
        "the lost one came back and disturbed the others"
    );
}

#[test]
fn a_dead_member_is_tried_now_and_then_but_not_hammered() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    let dead = nodes.remove((led + 1) % 3);
    let number = dead.number;
    dead.kill();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let before = world.cuts.dialled(number);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        nodes[led].put_soon("meanwhile", "x");
        std::thread::sleep(Duration::from_millis(20));
    }
    let dialled = world.cuts.dialled(number) - before;
    // Heartbeats ten times a second, each call with a few tries; entries four times a second.
    assert!(
        (2..300).contains(&dialled),
        "dialled {dialled} times in three seconds"
    );
}
