//! Snapshots over the wire: to a node whose entries are gone, in pieces, and while the members change.

use super::loopback::addresses;
use super::node::{Node, PATIENCE, World, eventually, leader};
use std::time::{Duration, Instant};
use ullage_metad::raft::GroupConfig;
use ullage_model::store::{Column, Read};
use ullage_model::wire::members::MembersRequest;

/// A world that keeps little log, and whose leaders stay while a disk is busy with snapshots.
fn forgetful() -> World {
    let world = World::default();
    World {
        config: GroupConfig {
            snapshot_after_bytes: 150_000,
            keep_log_bytes: 50_000,
            election_min_ms: 1_000,
            election_max_ms: 1_500,
            ..world.config
        },
        patience: PATIENCE,
        ..world
    }
}

fn fill(node: &Node, from: usize, count: usize, bytes: usize) {
    let value = noise(1, bytes);
    let commands: Vec<_> = (from..from + count)
        .map(|at| super::support::put(format!("k{at}").as_bytes(), &value))
        .collect();
    for batch in commands.chunks(200) {
        let answers = node.run(node.proposer.propose_many(batch.to_vec()));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}

/// Writes until the leader has purged more than `index`.
fn purge_beyond(node: &Node, index: u64, from: usize) -> usize {
    let mut written = from;
    eventually("the log is purged", || {
        if node
            .group
            .status()
            .purged_index
            .is_some_and(|purged| purged > index)
        {
            return true;
        }
        fill(node, written, 200, 500);
        written += 200;
        false
    });
    written
}

fn count(node: &Node) -> Option<bytes::Bytes> {
    node.group.state().get(Column::System, b"count").unwrap()
}

#[test]
fn a_node_whose_entries_are_gone_gets_a_snapshot() {
    let world = forgetful();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let away = nodes.remove((led + 1) % 3);
    let number = away.number;
    let had = away.group.status().last_index.unwrap();
    away.kill();
    let led = leader(&nodes);
    let written = purge_beyond(&nodes[led], had, 0);
    // What lies in the way must not matter.
    let incoming = world.path(number).join("state/incoming");
    std::fs::create_dir_all(&incoming).unwrap();
    std::fs::write(incoming.join("junk.sst"), b"junk").unwrap();
    std::fs::write(incoming.join("CURRENT"), b"MANIFEST-0000junk\n").unwrap();

    let back = world.start(number, &first[number], &first);
    back.ready();
    assert!(
        back.group.status().snapshot_index > Some(had),
        "{:?}",
        back.group.status()
    );
    assert!(back.group.metrics().snapshot_bytes_received.get() > 0);
    for at in 0..written {
        assert!(
            back.applied(&format!("k{at}")).is_some(),
            "k{at} of {written} is missing"
        );
    }
    nodes[led].put_soon("after", "x");
    eventually("it goes on with entries", || back.applied("after").is_some());
    assert_eq!(count(&back), count(&nodes[led]), "each command is applied once");
    // What it installed is durable.
    back.kill();
    let back = world.start(number, &first[number], &first);
    back.ready();
    assert!(back.applied("k0").is_some() && back.applied("after").is_some());
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    let world = forgetful();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    let away = nodes.remove((led + 1) % 3);
    let number = away.number;
    let had = away.group.status().last_index.unwrap_or(0);
    away.kill();
    let led = leader(&nodes);
    // Enough that a transfer takes its time: bytes that do not compress.
    for at in 0..60 {
        nodes[led].put_bytes_soon(&format!("n{at}"), &noise(at, 500_000));
    }
    purge_beyond(&nodes[led], had, 0);
    // From here on there is one snapshot and no newer one.
    eventually("the snapshot covers everything", || {
        let covers = || {
            let status = nodes[led].group.status();
            status.snapshot_index == status.last_index
        };
        if !covers() {
            nodes[led].run(nodes[led].group.trigger_snapshot()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        covers()
    });

    let back = world.start(number, &first[number], &first);
    let incoming = world.path(number).join("state/incoming");
    let arrived = || {
        let files = std::fs::read_dir(&incoming).into_iter().flatten();
        files
            .flatten()
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum::<u64>()
    };
    eventually("a part has arrived", || arrived() > 2_000_000);
    let others: Vec<usize> = nodes.iter().map(|node| node.number).collect();
    for other in &others {
        world.cuts.cut(number, *other);
    }
    let (mut before, mut since) = (arrived(), Instant::now());
    eventually("nothing comes any more", || {
        let now = arrived();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    world.cuts.heal();
    back.ready();
    assert!(back.applied("n59").is_some());
    let metrics = back.group.metrics();
    assert!(
        metrics.snapshot_bytes_resumed.get() > 0,
        "nothing of {before} bytes was used; {} came",
        metrics.snapshot_bytes_received.get()
    );
}

/// Bytes that look random and are the same each time.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    });
    next.take(bytes).collect()
}

#[test]
fn members_change_while_a_snapshot_is_installed() {
    let world = forgetful();
    let mut nodes = world.cluster(3);
    let mut first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    let away = nodes.remove((led + 1) % 3);
    let (number, id) = (away.number, away.id());
    let had = away.group.status().last_index.unwrap_or(0);
    away.kill();
    let led = leader(&nodes);
    let written = purge_beyond(&nodes[led], had, 0);
    first.extend(addresses(1));
    let newcomer = world.start(3, &first[3], &first[..3]);
    let back = world.start(number, &first[number], &first[..3]);
    let request = MembersRequest::Add {
        address: newcomer.address.clone(),
        replaces: None,
    };
    let added = nodes[led]
        .run(nodes[led].group.change_members(request, PATIENCE))
        .unwrap();
    assert_eq!(
        added.members.iter().filter(|member| member.voter).count(),
        4,
        "{added:?}"
    );
    nodes.extend([newcomer, back]);
    for node in &nodes {
        node.ready();
        eventually("all know the members", || {
            let members = node.group.members();
            !members.joint && members.members.iter().filter(|member| member.voter).count() == 4
        });
        assert!(node.applied(&format!("k{}", written - 1)).is_some());
    }
    let led = leader(&nodes);
    let gone = nodes
        .iter()
        .map(Node::id)
        .find(|other| *other != id && *other != nodes[led].id());
    let request = MembersRequest::Remove { node: gone.unwrap() };
    let left = nodes[led]
        .run(nodes[led].group.change_members(request, PATIENCE))
        .unwrap();
    assert_eq!(left.members.len(), 3, "{left:?}");
}
