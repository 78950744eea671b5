//! What befalls the cluster, and when: all of it follows from the seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::fmt;

/// Metadata nodes.
pub const METADS: usize = 3;
/// Vendors.
pub const VENDORS: usize = 4;
/// Gateways.
pub const GATEWAYS: usize = 2;
/// For how long faults go on.
pub const FAULTS_MS: u64 = 20_000;

/// A simulated host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A metadata node.
    Metad(usize),
    /// A vendor agent.
    Vendor(usize),
    /// A gateway, with its clients.
    Gateway(usize),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metad(number) => write!(f, "metad-{number}"),
            Self::Vendor(number) => write!(f, "vendor-{number}"),
            Self::Gateway(number) => write!(f, "gateway-{number}"),
        }
    }
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Replication groups alone: log, state machine, snapshots, elections, reads.
    Raft,
    /// All services.
    Cluster,
}

impl Shape {
    /// Its hosts.
    pub fn hosts(self) -> Vec<Host> {
        let metads = (0..METADS).map(Host::Metad);
        let vendors = (0..VENDORS).map(Host::Vendor);
        let gateways = (0..GATEWAYS).map(Host::Gateway);
        match self {
            Self::Raft => metads.collect(),
            Self::Cluster => metads.chain(vendors).chain(gateways).collect(),
        }
    }

    /// Its name in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Cluster => "cluster",
        }
    }

    /// By its name in the environment.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "raft" => Some(Self::Raft),
            "cluster" => Some(Self::Cluster),
            _ => None,
        }
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These hosts crash; what they had not made durable is lost. They start again at its end.
    Crash(Vec<Host>),
    /// Nothing passes between the two sides.
    Partition(Vec<Host>, Vec<Host>),
    /// Nothing passes from the first side to the second.
    OneWay(Vec<Host>, Vec<Host>),
    /// What is sent between the two sides arrives when it is over.
    Hold(Vec<Host>, Vec<Host>),
    /// Messages take up to so many ms.
    Slow(u64),
    /// Links break now and then: one in so many messages is the last for a while.
    Loss(u32),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it begins, in ms after the traffic.
    pub at_ms: u64,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// What.
    pub fault: Fault,
}

/// A defect put into the cluster, to see that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The metadata nodes' disks report a sync as done while nothing of it is durable.
    DisksLie,
}

impl Defect {
    /// By its name in the environment.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "disks-lie" => Some(Self::DisksLie),
            _ => None,
        }
    }
}

/// A seed's plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What is simulated.
    pub shape: Shape,
    /// The faults, by their beginning.
    pub events: Vec<Event>,
    /// Longest time of a message when nothing is wrong, in ms.
    pub latency_ms: u64,
    /// Shortest and longest time of a sync, in ms.
    pub sync_ms: (u64, u64),
    /// One in so many writes to a metadata node's state is followed by a flush of its own accord.
    pub flush_one_in: u64,
    /// Bytes of log that make a snapshot due, and that are kept behind one.
    pub log_bytes: (u64, u64),
    /// Whether crashes are those of machines, of which nobody is told, or of processes.
    pub silent_crashes: bool,
    /// Whether objects up to 4 KiB are kept in the FAT.
    pub inline: bool,
    /// Whether the bucket keeps old versions.
    pub versioned: bool,
    /// By how much each host's clock runs fast or slow, in parts per thousand.
    pub drifts_permille: Vec<i32>,
    /// What is broken on purpose.
    pub defect: Option<Defect>,
}

impl Plan {
    /// The plan of `seed`.
    pub fn of(shape: Shape, seed: u64, defect: Option<Defect>) -> Self {
        let mut random = part(seed, 1);
        let hosts = shape.hosts();
        let count = random.random_range(2..=7);
        let mut events: Vec<Event> = (0..count).map(|_| event(&hosts, &mut random)).collect();
        if defect == Some(Defect::DisksLie) {
            events.push(Event {
                at_ms: FAULTS_MS - 2_000,
                lasts_ms: 500,
                fault: Fault::Crash((0..METADS).map(Host::Metad).collect()),
            });
        }
        events.sort_by_key(|event| event.at_ms);
        let slowest = random.random_range(1..=8);
        Self {
            seed,
            shape,
            events,
            latency_ms: random.random_range(1..=20),
            sync_ms: (random.random_range(0..=slowest), slowest),
            flush_one_in: *[5, 20, 100].choose(&mut random).unwrap_or(&20),
            log_bytes: *[(8 << 10, 4 << 10), (64 << 10, 16 << 10), (1 << 30, 1 << 30)]
                .choose(&mut random)
                .unwrap_or(&(64 << 10, 16 << 10)),
            silent_crashes: random.random_bool(0.5),
            inline: random.random_bool(0.5),
            drifts_permille: hosts.iter().map(|_| random.random_range(-5..=5)).collect(),
            versioned: random.random_bool(0.4),
            defect,
        }
    }
}

impl Plan {
    /// By how much a host's clock runs fast or slow.
    pub fn drift_permille(&self, host: Host) -> i32 {
        let hosts = self.shape.hosts();
        let place = hosts.iter().position(|other| *other == host);
        place
            .and_then(|place| self.drifts_permille.get(place).copied())
            .unwrap_or(0)
    }
}

/// A generator for one part of a run, so that parts do not disturb each other's draws.
pub fn part(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn event(hosts: &[Host], random: &mut StdRng) -> Event {
    let at_ms = random.random_range(0..FAULTS_MS - 1_000);
    let longest = (FAULTS_MS - at_ms).min(12_000);
    Event {
        at_ms,
        lasts_ms: random.random_range(100..=longest),
        fault: fault(hosts, random),
    }
}

fn fault(hosts: &[Host], random: &mut StdRng) -> Fault {
    match random.random_range(0..100) {
        0..30 => Fault::Crash(vec![anybody(hosts, random)]),
        30..38 => Fault::Crash((0..METADS).map(Host::Metad).collect()),
        38..43 => Fault::Crash(hosts.to_vec()),
        43..60 => {
            let (one, other) = sides(hosts, random);
            Fault::Partition(one, other)
        }
        60..72 => {
            let (one, other) = sides(hosts, random);
            Fault::OneWay(one, other)
        }
        72..82 => {
            let (one, other) = sides(hosts, random);
            Fault::Hold(one, other)
        }
        82..91 => Fault::Slow(random.random_range(50..=400)),
        _ => Fault::Loss(random.random_range(200..=2_000)),
    }
}

/// One host; metadata nodes more often than others.
fn anybody(hosts: &[Host], random: &mut StdRng) -> Host {
    let metads_only = random.random_bool(0.4);
    let some: Vec<Host> = hosts
        .iter()
        .copied()
        .filter(|host| !metads_only || matches!(host, Host::Metad(_)))
        .collect();
    some.choose(random).copied().unwrap_or(Host::Metad(0))
}

/// One host or some, and everybody else or some of them.
fn sides(hosts: &[Host], random: &mut StdRng) -> (Vec<Host>, Vec<Host>) {
    let one = if random.random_bool(0.6) {
        vec![anybody(hosts, random)]
    } else {
        hosts
            .iter()
            .copied()
            .filter(|_| random.random_bool(0.4))
            .collect()
    };
    let whole = random.random_bool(0.7);
    let other = hosts
        .iter()
        .copied()
        .filter(|host| !one.contains(host) && (whole || random.random_bool(0.5)))
        .collect();
    (one, other)
}
