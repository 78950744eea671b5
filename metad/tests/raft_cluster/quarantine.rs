//! Replicas whose data is not what the group agreed on: they stop, alone, stay stopped, and are replaced.

use super::node::{Node, PATIENCE, World, eventually, leader};
use bytes::Bytes;
use std::path::Path;
use ullage_metad::Error;
use ullage_metad::raft::RAFT_ROWS;
use ullage_metad::store::{Budget, LogDatabase, LogEntry, StateWrite, States, Steps};
use ullage_model::store::{Change, Column};
use ullage_model::wire::members::MembersRequest;

fn budget() -> Budget {
    Budget::new(8 << 20, 16 << 20)
}

/// Changes a row behind everybody's back.
fn tamper(home: &Path) {
    let states = States::open(&home.join("state"), &budget(), Steps::default(), RAFT_ROWS).unwrap();
    let state = states.current();
    let count = Change {
        column: Column::System,
        key: Bytes::from_static(b"count"),
        value: Some(Bytes::copy_from_slice(&1_000_000_u64.to_be_bytes())),
    };
    let write = StateWrite {
        changes: vec![count],
        raft: Vec::new(),
    };
    state.write(&write).unwrap();
    state.flush().unwrap();
}

/// Waits until `node` has stopped for good, and stops what is left of it.
fn stopped(node: Node, why: &str) {
    eventually("the replica stops", || node.group.status().failure.is_some());
    let failure = node.group.status().failure.unwrap();
    assert!(failure.contains(why), "{failure}");
    eventually("it is out of the group", || {
        node.put("no", "x").is_err() && !node.group.leads()
    });
    node.shut_down();
}

/// A quarantined node says what to do; done, it works.
fn rejoins(world: &World, nodes: &mut Vec<Node>, number: usize, address: &str, old: u64) {
    let first: Vec<String> = nodes
        .iter()
        .map(|node| node.address.clone())
        .chain([address.to_owned()])
        .collect();
    let refused = match world.try_start(number, address, &first, Steps::default()) {
        Err(error) => error,
        Ok(_) => panic!("a quarantined directory was opened"),
    };
    assert!(
        matches!(refused, Error::Quarantined { node, .. } if node == old),
        "{refused}"
    );
    let words = format!("ullage admin metad add ADDRESS --replaces {old:016x}");
    assert!(refused.to_string().contains(&words), "{refused}");
    std::fs::rename(world.path(number), world.home.path().join("aside")).unwrap();
    let fresh = world.start(number, address, &first);
    assert_ne!(fresh.id(), old);
    let led = leader(nodes);
    let request = MembersRequest::Add {
        address: address.to_owned(),
        replaces: Some(old),
    };
    let members = nodes[led]
        .run(nodes[led].group.change_members(request, PATIENCE))
        .unwrap();
    let voters: Vec<u64> = members
        .members
        .iter()
        .filter(|member| member.voter)
        .map(|member| member.node)
        .collect();
    assert!(
        voters.contains(&fresh.id()) && !voters.contains(&old) && voters.len() == 3,
        "{members:?}"
    );
    fresh.ready();
    nodes.push(fresh);
    let led = leader(nodes);
    nodes[led].put_soon("rejoined", "x");
    eventually("it is given entries", || {
        nodes.iter().all(|node| node.applied("rejoined").is_some())
    });
}

fn one_of_three(world: &World) -> (Vec<Node>, usize, String, u64) {
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    for at in 0..40 {
        nodes[led].put_soon(&format!("k{at}"), "x");
    }
    let node = nodes.remove((led + 1) % 3);
    let (number, address, id) = (node.number, node.address.clone(), node.id());
    node.shut_down();
    (nodes, number, address, id)
}

#[test]
fn a_replica_that_differs_stops_alone_and_is_replaced() {
    let world = World::default();
    let (mut nodes, number, address, id) = one_of_three(&world);
    tamper(&world.path(number));
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let odd = world.start(number, &address, &first);
    let led = leader(&nodes);
    for at in 0..100 {
        nodes[led].put_soon(&format!("l{at}"), "x");
    }
    stopped(odd, "differs from the others'");
    for node in &nodes {
        assert_eq!(node.group.status().failure, None, "the right replicas go on");
    }
    let led = leader(&nodes);
    nodes[led].put_soon("meanwhile", "x");
    rejoins(&world, &mut nodes, number, &address, id);
}

#[test]
fn a_leader_that_differs_stops_too() {
    let world = World::default();
    let (mut nodes, number, address, id) = one_of_three(&world);
    tamper(&world.path(number));
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let odd = world.start(number, &address, &first);
    odd.ready();
    let led = leader(&nodes);
    nodes[led]
        .run(nodes[led].group.hand_over(Some(id), PATIENCE))
        .unwrap();
    eventually("the odd one leads", || odd.group.leads());
    eventually("it is found out", || {
        drop(odd.put("more", "x"));
        odd.group.status().failure.is_some()
    });
    stopped(odd, "differs from the others'");
    let led = leader(&nodes);
    nodes[led].put_soon("meanwhile", "x");
    rejoins(&world, &mut nodes, number, &address, id);
}

#[test]
fn a_damaged_log_entry_sets_the_directory_aside() {
    let world = World::default();
    let (mut nodes, number, address, id) = one_of_three(&world);
    let log = LogDatabase::open(&world.path(number).join("raft-log"), &budget(), Steps::default()).unwrap();
    let (last, _) = log.last().unwrap().unwrap();
    let entry = LogEntry {
        index: last,
        header: b"not what was",
        payload: b"written here",
    };
    log.append([entry].into_iter(), None).unwrap();
    log.sync().unwrap();
    drop(log);
    let opened = world.try_start(number, &address, &[], Steps::default());
    assert!(matches!(opened, Err(Error::Quarantined { .. })));
    drop(opened);
    rejoins(&world, &mut nodes, number, &address, id);
}

#[test]
fn a_damaged_table_sets_the_directory_aside() {
    let world = World::default();
    let (mut nodes, number, address, id) = one_of_three(&world);
    let state = world.path(number).join("state");
    let mut tables = 0;
    for directory in std::fs::read_dir(&state).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(directory.path()) else {
            continue;
        };
        for file in files
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "sst"))
        {
            let mut bytes = std::fs::read(&file).unwrap();
            // Only data blocks: what lies at the end tells where they are.
            let middle = bytes.len() / 8;
            for byte in &mut bytes[..middle.max(16)] {
                *byte ^= 0x55;
            }
            std::fs::write(&file, bytes).unwrap();
            tables += 1;
        }
    }
    assert!(tables > 0, "there are tables to damage");
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    match world.try_start(number, &address, &first, Steps::default()) {
        Ok(odd) => {
            let led = leader(&nodes);
            for at in 0..40 {
                nodes[led].put_soon(&format!("k{at}"), "again");
            }
            stopped(odd, "Corruption");
        }
        Err(Error::Quarantined { .. }) => (),
        Err(error) => panic!("{error}"),
    }
    rejoins(&world, &mut nodes, number, &address, id);
}
