//! Peers of another cluster or group, and nodes that are not who they should be, are refused.

use super::node::{Node, World, eventually, leader};
use std::time::Duration;
use ullage_metad::Error;

/// A cluster one of whose members comes back with one line of its marker changed; it, and the others.
fn came_back_changed(world: &World, change: impl Fn(&str) -> String, group: u64) -> (Vec<Node>, Node) {
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let changed = nodes.remove((led + 1) % 3);
    let number = changed.number;
    changed.shut_down();
    let marker = world.path(number).join("ullage-metad");
    let text = std::fs::read_to_string(&marker).unwrap();
    let lines: Vec<String> = text.lines().map(change).collect();
    let altered = lines.join("\n") + "\n";
    assert_ne!(altered, text);
    std::fs::write(&marker, altered).unwrap();
    let led = leader(&nodes);
    nodes[led].put_soon("meanwhile", "x");
    let back = world.start_in_group(number, &first[number], &first, group);
    (nodes, back)
}

fn check_refused(nodes: &[Node], back: &Node) {
    let waited = back.run(back.group.ready(Duration::from_secs(4)));
    assert!(waited.is_err(), "it was let in");
    assert!(back.applied("meanwhile").is_none(), "it was given entries");
    assert!(!back.group.leads());
    let read = back.get("before");
    assert!(read.is_err(), "it served a linearizable read: {read:?}");
    // The others are not disturbed.
    let term = nodes[leader(nodes)].group.status().term;
    nodes[leader(nodes)].put_soon("after", "x");
    assert_eq!(nodes[leader(nodes)].group.status().term, term);
    eventually("the others go on", || {
        nodes.iter().all(|node| node.applied("after").is_some())
    });
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let world = World::default();
    let other = |line: &str| match line.strip_prefix("cluster ") {
        Some(_) => format!("cluster {:032x}", 5),
        None => line.to_owned(),
    };
    let (nodes, back) = came_back_changed(&world, other, 0);
    assert_eq!(back.group.identity().cluster, 5);
    check_refused(&nodes, &back);
    assert_eq!(
        back.group.identity().cluster,
        5,
        "a node belongs to one cluster for good"
    );
}

#[test]
fn a_node_of_another_group_is_refused() {
    let world = World::default();
    let other = |line: &str| match line.strip_prefix("group ") {
        Some(_) => "group 9".to_owned(),
        None => line.to_owned(),
    };
    let (nodes, back) = came_back_changed(&world, other, 9);
    check_refused(&nodes, &back);
}

#[test]
fn a_node_under_another_id_is_not_taken_for_the_old_one() {
    let world = World::default();
    let other = |line: &str| match line.strip_prefix("node ") {
        Some(_) => format!("node {:016x}", 77),
        None => line.to_owned(),
    };
    let (nodes, back) = came_back_changed(&world, other, 0);
    check_refused(&nodes, &back);
    let members = nodes[leader(&nodes)].group.members();
    assert!(
        members
            .members
            .iter()
            .all(|member| member.node != 77 || !member.voter),
        "{members:?}"
    );
}

#[test]
fn a_directory_of_another_group_is_not_opened() {
    let world = World::default();
    let nodes = world.cluster(1);
    let address = nodes[0].address.clone();
    for node in nodes {
        node.shut_down();
    }
    let opened = world.try_start_in_group(0, &address, std::slice::from_ref(&address), 4);
    assert!(matches!(opened, Err(Error::OtherGroup { .. })));
}
