//! How a node becomes part of a group. The first of the listed nodes, if all of them answer that they are empty,
//! makes the cluster; the others are adopted by its first message. Whoever comes later asks to join, and whoever
//! comes back at another address says so.
//!
//! That the others hold the same cluster secret needs no message: they could not be reached otherwise.

use super::core::{Core, stopped};
use super::link::{Lane, Link};
use super::wire::{JOIN, Join, Who};
use crate::error::Error;
use crate::store::NO_CLUSTER;
use futures::future::join_all;
use openraft::impls::BasicNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a node that is part of nothing yet looks around.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a member without a leader says where it is.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// How often the log says what is waited for.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// How long the leader may take to note where a node is.
const JOIN_WITHIN: Duration = Duration::from_secs(5);

/// What is missing before a node is part of a group.
enum Waits {
    /// For this, in words.
    For(String),
    /// For nothing.
    Not,
}

/// Makes this node part of a group and keeps the group informed of its address.
pub(super) async fn run(core: Arc<Core>, first: Vec<String>) {
    let Some(link) = core.link.clone() else { return };
    let mut reminded = Instant::now();
    let mut led = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let settled = core.leader().is_some() && !moved(&core);
        if settled {
            led = Instant::now();
            reminded = led;
            continue;
        }
        let waits = match core.initialised().await {
            Ok(false) => form(&core, &link, &first).await,
            Ok(true) if led.elapsed() < LOST_AFTER && !moved(&core) => Ok(Waits::Not),
            Ok(true) => {
                led = Instant::now();
                tell(&core, &link, &first).await
            }
            Err(_) => return,
        };
        let words = match waits {
            Ok(Waits::Not) => continue,
            Ok(Waits::For(words)) => words,
            Err(error) => error.to_string(),
        };
        tracing::debug!(reason = words, "this node waits to be part of a group");
        if reminded.elapsed() > REMIND_EVERY {
            reminded = Instant::now();
            tracing::warn!(reason = words, "this node still waits to be part of a group");
        }
    }
}

/// Whether the members believe this node to be elsewhere.
fn moved(core: &Core) -> bool {
    let membership = core.membership();
    let known = membership.get_node(&core.me.node);
    known.is_some_and(|node| node.addr != core.config.address)
}

/// What an empty node does: found, join, or wait for the founder.
async fn form(core: &Arc<Core>, link: &Link, first: &[String]) -> Result<Waits, Error> {
    let mine = &core.config.address;
    let others: Vec<&String> = first.iter().filter(|address| *address != mine).collect();
    let answers = join_all(others.iter().map(|address| link.who(address))).await;
    let asked: Vec<(&String, Result<Who, Error>)> = others.into_iter().zip(answers).collect();
    for (address, answer) in &asked {
        let Ok(who) = answer else { continue };
        if who.node == core.me.node {
            let reason = format!("{address} is this very node: its own address is {mine}");
            return Err(Error::Setting { key: "peers", reason });
        }
        if who.initialised {
            return join(core, link, who).await;
        }
        if who.cluster != NO_CLUSTER && core.me.cluster() != Some(who.cluster) {
            // Its founder was lost before it had begun: only an operator can know that nothing else is.
            let words = format!("{address}, which a cluster has adopted that is not here, to be emptied");
            return Ok(Waits::For(words));
        }
    }
    if first.first() != Some(mine) {
        let founder = first.first().map_or("any founder", String::as_str);
        let mut words = format!("{founder} makes the cluster, or somebody to join");
        let unheard = asked.iter().find_map(|(_, answer)| answer.as_ref().err());
        if let Some(error) = unheard {
            words = format!("{words}; {error}");
        }
        return Ok(Waits::For(words));
    }
    let mut members = BTreeMap::from([(core.me.node, BasicNode::new(mine))]);
    for (address, answer) in asked {
        let who = match answer {
            Ok(who) => who,
            Err(error) => return Ok(Waits::For(error.to_string())),
        };
        members.insert(who.node, BasicNode::new(address));
    }
    let listed: BTreeSet<&String> = first.iter().collect();
    if members.len() != listed.len() {
        let reason = "two of them are the same node".to_owned();
        return Err(Error::Setting { key: "peers", reason });
    }
    // A node that was interrupted here goes on with the cluster it had minted.
    let cluster = core.me.cluster().unwrap_or(core.data.fresh_cluster());
    core.adopt(cluster).await?;
    tracing::info!(
        cluster = format!("{cluster:032x}"),
        members = members.len(),
        "a new cluster begins"
    );
    core.raft.initialize(members).await.map_err(stopped)?;
    Ok(Waits::Not)
}

/// Asks the group that `who` knows to let this node in.
async fn join(core: &Core, link: &Link, who: &Who) -> Result<Waits, Error> {
    if let Some(cluster) = core.me.cluster()
        && cluster != who.cluster
    {
        return Err(Error::OtherCluster {
            path: core.data.path().to_path_buf(),
            found: format!("{cluster:032x}"),
            expected: format!("{:032x}", who.cluster),
        });
    }
    let known = who
        .members
        .iter()
        .any(|(node, address)| *node == core.me.node && *address == core.config.address);
    if known {
        return Ok(Waits::For("the leader's first message".to_owned()));
    }
    let Some((leader, address)) = &who.leader else {
        return Ok(Waits::For("the cluster elects a leader".to_owned()));
    };
    say(core, link, who.cluster, *leader, address).await?;
    Ok(Waits::For("the leader's first message".to_owned()))
}

/// What a member does that hears of no leader, or is believed to be elsewhere: it finds the leader and says where
/// it is.
async fn tell(core: &Core, link: &Link, first: &[String]) -> Result<Waits, Error> {
    let membership = core.membership();
    let mut addresses: BTreeSet<String> = first.iter().cloned().collect();
    addresses.extend(membership.nodes().map(|(_, node)| node.addr.clone()));
    addresses.remove(&core.config.address);
    let cluster = core.me.cluster().unwrap_or(NO_CLUSTER);
    if core.leads() {
        core.join(core.me.node, core.config.address.clone()).await?;
        return Ok(Waits::Not);
    }
    let answers = join_all(addresses.iter().map(|address| link.who(address))).await;
    let of_this = answers.iter().flatten().filter(|who| who.cluster == cluster);
    let mut led = of_this.filter_map(|who| who.leader.clone().map(|leader| (who, leader)));
    let Some((who, (leader, address))) = led.next() else {
        return Ok(Waits::For("a leader".to_owned()));
    };
    if !who.members.iter().any(|(node, _)| *node == core.me.node) {
        // Removed nodes do not come back by themselves.
        let words = "an operator: the group does not count this node among its members any more";
        return Ok(Waits::For(words.to_owned()));
    }
    if leader != core.me.node {
        say(core, link, cluster, leader, &address).await?;
    }
    Ok(Waits::For("the leader's messages".to_owned()))
}

/// Tells the leader where this node is.
async fn say(core: &Core, link: &Link, cluster: u128, leader: u64, address: &str) -> Result<(), Error> {
    let target = link.target(leader, address, Lane::Other);
    let mut head = link.head(leader);
    head.cluster = cluster;
    let body = Join {
        address: core.config.address.clone(),
    };
    let told = link.send::<_, ()>(head, &target, JOIN, body, JOIN_WITHIN).await;
    told.map_err(|error| Error::Peer {
        action: "join",
        address: address.to_owned(),
        reason: error.to_string(),
    })
}
