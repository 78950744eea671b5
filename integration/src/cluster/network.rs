//! Where the services of a cluster live: each at an address of its own, on loopback or in a network namespace
//! behind a bridge, so that all of them use the ports that operators use, and none waits for one that an
//! outgoing connection happens to hold.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail, ensure};

use crate::clients::find;

/// Where services run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// All in the test's own network, each at a loopback address of its own. Needs no privileges.
    #[default]
    Loopback,
    /// Each in a network namespace of its own, tied to a bridge: packets between them can be dropped, slowed
    /// down and routed. Needs root.
    Namespaces,
}

impl Placement {
    /// Why it cannot be used here, if so: for [`crate::clients::skip`].
    #[must_use]
    pub fn unavailable(self) -> Option<String> {
        if self == Self::Loopback {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let missing: Vec<_> = ["ip", "nft", "tc"]
            .into_iter()
            .filter(|tool| tool_path(tool).is_none())
            .collect();
        if !missing.is_empty() {
            return Some(format!(
                "{} not installed (`make test-tools` installs iproute2 and nftables)",
                missing.join(", ")
            ));
        }
        // A container may be root and yet not be allowed to. Tried once: tests of one process run side by side.
        static TRIED: OnceLock<Option<String>> = OnceLock::new();
        let try_it = || {
            let name = format!("ullage-try-{}", std::process::id());
            let tried = ip(&["netns", "add", &name]).and_then(|()| ip(&["netns", "del", &name]));
            tried.err().map(|error| format!("{error:#}"))
        };
        TRIED.get_or_init(try_it).clone()
    }
}

/// One service's place.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its namespace, if it has one.
    namespace: Option<String>,
    /// The bridge's end of its line, if it has one.
    line: Option<String>,
}

impl Host {
    /// An address of it.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }

    /// What runs a program there: nothing, or `ip netns exec`.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        match &self.namespace {
            None => Vec::new(),
            Some(name) => ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
        }
    }

    fn namespace(&self) -> anyhow::Result<&str> {
        let name = self.namespace.as_deref();
        name.context("packets can be touched in Placement::Namespaces only")
    }

    /// Drops packets between this host and `other`: those that it sends, those that it gets, or both. What was
    /// dropped before stays dropped, until [`Host::heal`].
    ///
    /// # Errors
    /// Outside namespaces, or if nftables refuses.
    pub fn cut(&self, other: &Self, direction: Direction) -> anyhow::Result<()> {
        let other = other.ip;
        let mut rules = String::from(
            "add table ip cut\n\
             add chain ip cut out { type filter hook output priority 0; }\n\
             add chain ip cut in { type filter hook input priority 0; }\n",
        );
        if direction != Direction::In {
            rules += &format!("add rule ip cut out ip daddr {other} drop\n");
        }
        if direction != Direction::Out {
            rules += &format!("add rule ip cut in ip saddr {other} drop\n");
        }
        self.run_with("nft", &["-f", "-"], &rules)
    }

    /// Ends all that [`Host::cut`] did here.
    ///
    /// # Errors
    /// Outside namespaces, or if nftables refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.run_with("nft", &["-f", "-"], "add table ip cut\ndelete table ip cut\n")
    }

    /// Holds what it sends, and what it is sent, to a rate each (a token bucket: kernels without netem have
    /// it too); `None` takes the limit away.
    ///
    /// # Errors
    /// Outside namespaces, or if `tc` refuses.
    pub fn limit(&self, limit: Option<Limit>) -> anyhow::Result<()> {
        let namespace = Some(self.namespace()?);
        let line = self.line.as_deref().context("it has no line")?;
        for (namespace, device) in [(namespace, "eth0"), (None, line)] {
            let rate = limit.map(|limit| format!("{}bit", limit.bytes_per_second * 8));
            let arguments = match &rate {
                None => vec!["qdisc", "del", "dev", device, "root"],
                Some(rate) => {
                    let bucket = ["tbf", "rate", rate, "burst", "64kb", "latency", "400ms"];
                    [&["qdisc", "replace", "dev", device, "root"], &bucket[..]].concat()
                }
            };
            run(namespace, "tc", &arguments, "")?;
        }
        Ok(())
    }

    /// Bytes that it has sent to others so far, packet headers included.
    ///
    /// # Errors
    /// Outside namespaces, or if the kernel does not tell.
    pub fn sent_bytes(&self) -> anyhow::Result<u64> {
        let mut command = Command::new(tool_path("ip").context("ip is not installed")?);
        command.args([
            "netns",
            "exec",
            self.namespace()?,
            "cat",
            "/sys/class/net/eth0/statistics/tx_bytes",
        ]);
        let output = command.output().context("read a counter")?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse().with_context(|| format!("a counter says {text:?}"))
    }

    /// Runs a network tool in the namespace.
    fn run_with(&self, tool: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
        run(Some(self.namespace()?), tool, arguments, input)
    }
}

/// Which packets are dropped, seen from the host at which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that it sends.
    Out,
    /// Those that it gets.
    In,
    /// All.
    Both,
}

/// What a slow line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes per second.
    pub bytes_per_second: u64,
}

/// The network of one cluster: up to 200 hosts. Its namespaces and its bridge go when it is dropped.
pub struct Network {
    placement: Placement,
    /// The first three bytes of all addresses.
    prefix: [u8; 3],
    hosts: u8,
    namespaces: Vec<String>,
    // Bound while the prefix is in use: tests side by side, in other processes too, get others.
    _guard: TcpListener,
}

/// The second bytes of prefixes: 198.18.0.0/15 is set aside for tests of networks (RFC 2544), and 127/8 has
/// the same second bytes.
const SECOND_BYTES: [u8; 2] = [18, 19];
/// Port of the listener that shows that a prefix is in use.
const GUARD_PORT: u16 = 9309;
/// The test's own address at the bridge, and that of the guard.
const OWN_HOST: u8 = 254;
/// Routers are numbered from here.
const FIRST_ROUTER: u8 = 201;

impl Network {
    /// A network that nobody else uses.
    ///
    /// # Errors
    /// If none is left, or namespaces cannot be had.
    pub fn new(placement: Placement) -> anyhow::Result<Self> {
        let start: u16 = rand::random();
        for step in 0..512 {
            let number = start.wrapping_add(step) % 512;
            let [high, third] = number.to_be_bytes();
            let second = SECOND_BYTES[usize::from(high)];
            let guard = Ipv4Addr::new(127, second, third, OWN_HOST);
            let Ok(guard) = TcpListener::bind((guard, GUARD_PORT)) else {
                continue;
            };
            let first = if placement == Placement::Loopback {
                127
            } else {
                198
            };
            let network = Self {
                placement,
                prefix: [first, second, third],
                hosts: 0,
                namespaces: Vec::new(),
                _guard: guard,
            };
            if placement == Placement::Namespaces {
                network.make_bridge()?;
            }
            return Ok(network);
        }
        bail!("all of 512 test networks are in use")
    }

    /// A further host, `routers` hops behind the bridge (0 on loopback).
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn add(&mut self, routers: u8) -> anyhow::Result<Host> {
        ensure!(self.hosts < FIRST_ROUTER - 1, "a test network has 200 hosts");
        self.hosts += 1;
        let ip = self.address(self.hosts);
        let (namespace, line) = match self.placement {
            Placement::Loopback => {
                ensure!(routers == 0, "there are no routers on loopback");
                (None, None)
            }
            Placement::Namespaces => (
                Some(self.make_host(ip, routers)?),
                Some(self.name("v", self.hosts)),
            ),
        };
        Ok(Host { ip, namespace, line })
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, host)
    }

    /// Names are short: Linux allows 15 bytes for those of interfaces.
    fn name(&self, kind: &str, number: u8) -> String {
        let [_, second, third] = self.prefix;
        format!("ul{second}-{third}{kind}{number}")
    }

    fn make_bridge(&self) -> anyhow::Result<()> {
        let bridge = self.name("b", 0);
        // One that a killed test left behind.
        let _ = ip(&["link", "del", &bridge]);
        ip(&["link", "add", &bridge, "type", "bridge", "forward_delay", "0"])?;
        let own = format!("{}/24", self.address(OWN_HOST));
        ip(&["addr", "add", &own, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])
    }

    fn make_namespace(&mut self, kind: &str, number: u8) -> anyhow::Result<String> {
        let name = self.name(kind, number);
        // One that a killed test left behind.
        let _ = ip(&["netns", "del", &name]);
        ip(&["netns", "add", &name])?;
        self.namespaces.push(name.clone());
        run(Some(&name), "ip", &["link", "set", "lo", "up"], "")?;
        Ok(name)
    }

    /// A namespace for `ip` on `eth0`, tied to the bridge directly or through `routers` more namespaces that
    /// forward. Routers answer for the addresses behind them (proxy ARP), so nobody needs routes.
    fn make_host(&mut self, ip: Ipv4Addr, routers: u8) -> anyhow::Result<String> {
        let number = ip.octets()[3];
        let host = self.make_namespace("h", number)?;
        let bridge = self.name("b", 0);
        let outer = self.name("v", number);
        let mut inner = host.clone();
        for router in 0..routers {
            // The router next to the host first; each further one stands between it and the bridge.
            let index = FIRST_ROUTER
                .checked_add(router)
                .filter(|index| *index < OWN_HOST)
                .context("too many routers in a row")?;
            let name = self.make_namespace(&format!("r{number}-"), index)?;
            veth(&inner, "eth0", &name, "in0")?;
            set(&name, "ip_forward", "1")?;
            set(&name, "conf/all/rp_filter", "0")?;
            answer_for_others(&name, "in0")?;
            let own = format!("{}/32", self.address(index));
            run(Some(&name), "ip", &["addr", "add", &own, "dev", "in0"], "")?;
            run(Some(&name), "ip", &["link", "set", "in0", "up"], "")?;
            run(
                Some(&name),
                "ip",
                &["route", "add", &ip.to_string(), "dev", "in0"],
                "",
            )?;
            self.up(&inner, ip, inner == host)?;
            inner = name;
        }
        ip_add_outer(&outer, &inner)?;
        self::ip(&["link", "set", &outer, "master", &bridge, "up"])?;
        self.up(&inner, ip, inner == host)?;
        Ok(host)
    }

    /// Brings `eth0` of a namespace up: with the host's address, or as a router's side towards the bridge.
    fn up(&self, namespace: &str, address: Ipv4Addr, is_host: bool) -> anyhow::Result<()> {
        let network = format!("{}/24", self.address(0));
        if is_host {
            let address = format!("{address}/24");
            run(
                Some(namespace),
                "ip",
                &["addr", "add", &address, "dev", "eth0"],
                "",
            )?;
            return run(Some(namespace), "ip", &["link", "set", "eth0", "up"], "");
        }
        answer_for_others(namespace, "eth0")?;
        run(Some(namespace), "ip", &["link", "set", "eth0", "up"], "")?;
        run(
            Some(namespace),
            "ip",
            &["route", "add", &network, "dev", "eth0"],
            "",
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // With a namespace its side of each pair goes, and so the other.
            if let Err(error) = ip(&["netns", "del", name]) {
                println!("{error:#}");
            }
        }
        if self.placement == Placement::Namespaces
            && let Err(error) = ip(&["link", "del", &self.name("b", 0)])
        {
            println!("{error:#}");
        }
    }
}

/// A pair of interfaces between two namespaces, both down.
fn veth(one: &str, one_name: &str, other: &str, other_name: &str) -> anyhow::Result<()> {
    ip(&[
        "link", "add", one_name, "netns", one, "type", "veth", "peer", "name", other_name, "netns", other,
    ])
}

/// A pair between the test's own namespace (`outer`) and `eth0` of another.
fn ip_add_outer(outer: &str, namespace: &str) -> anyhow::Result<()> {
    let _ = ip(&["link", "del", outer]);
    ip(&[
        "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", namespace,
    ])
}

/// Changes a setting of the kernel for IPv4 in a namespace.
fn set(namespace: &str, name: &str, value: &str) -> anyhow::Result<()> {
    run(
        Some(namespace),
        "tee",
        &[&format!("/proc/sys/net/ipv4/{name}")],
        value,
    )
}

/// Proxy ARP at once, whatever way the packets' senders are.
fn answer_for_others(namespace: &str, interface: &str) -> anyhow::Result<()> {
    set(namespace, &format!("conf/{interface}/proxy_arp"), "1")?;
    set(namespace, &format!("conf/{interface}/rp_filter"), "0")?;
    set(namespace, &format!("neigh/{interface}/proxy_delay"), "0")
}

fn tool_path(tool: &str) -> Option<std::path::PathBuf> {
    let administrators = ["/usr/sbin", "/sbin"].map(|directory| std::path::Path::new(directory).join(tool));
    find(tool).or_else(|| administrators.into_iter().find(|path| path.is_file()))
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run(None, "ip", arguments, "")
}

/// Runs a network tool, in a namespace if one is given.
fn run(namespace: Option<&str>, tool: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::process::Stdio;
    let path = tool_path(tool).with_context(|| format!("{tool} is not installed"))?;
    let mut command = match namespace {
        None => Command::new(path),
        Some(name) => {
            let mut command = Command::new(tool_path("ip").context("ip is not installed")?);
            command.args(["netns", "exec", name]).arg(path);
            command
        }
    };
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {tool}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("write to {tool}"))?;
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for {tool}"))?;
    ensure!(
        output.status.success(),
        "{tool} {arguments:?} in {namespace:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
