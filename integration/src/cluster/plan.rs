//! What a cluster under test is made of, and the settings files of its services: what operators write, see
//! docs/examples/cluster.

use std::fmt::Write as _;
use std::path::Path;

use super::network::{Host, Placement};

/// Ports, as operators have them.
pub(super) const METAD_PORT: u16 = 9310;
/// The metadata service's health and metrics.
pub(super) const METAD_ADMIN_PORT: u16 = 9311;
/// The vendor agent's services.
pub(super) const AGENT_PORT: u16 = 9320;
/// The vendor agent's health and metrics.
pub(super) const AGENT_ADMIN_PORT: u16 = 9321;
/// S3.
pub(super) const S3_PORT: u16 = 9000;
/// The gateway's admin API, health and metrics.
pub(super) const GATEWAY_ADMIN_PORT: u16 = 9001;

/// What a cluster is made of. The defaults are 3 metadata nodes, 4 vendors of 2 devices each, and 2 gateways.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Metadata nodes that make the cluster.
    pub metads: usize,
    /// Vendors.
    pub agents: Vec<AgentPlan>,
    /// Gateways.
    pub gateways: usize,
    /// Copies in the class STANDARD.
    pub copies: u32,
    /// Where they run.
    pub placement: Placement,
    /// Further lines at the top of every metadata node's settings.
    pub metad_settings: String,
    /// Further lines of every gateway's settings.
    pub gateway_settings: String,
    /// Environment variables of every service.
    pub environment: Vec<(String, String)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            metads: 3,
            agents: vec![AgentPlan::default(); 4],
            gateways: 2,
            copies: 2,
            placement: Placement::Loopback,
            metad_settings: String::new(),
            gateway_settings: String::new(),
            environment: Vec::new(),
        }
    }
}

/// One vendor.
#[derive(Clone, Debug)]
pub struct AgentPlan {
    /// Its devices.
    pub devices: u32,
    /// Bytes that each of them offers.
    pub device_capacity: u64,
    /// Class of its devices.
    pub device_class: String,
    /// Its zone; one of its own if `None`.
    pub zone: Option<String>,
    /// Its price.
    pub price: u64,
    /// Routers between it and everybody else, in namespaces.
    pub routers: u8,
    /// Further lines at the top of its settings.
    pub settings: String,
}

impl Default for AgentPlan {
    fn default() -> Self {
        Self {
            devices: 2,
            device_capacity: 4 << 30,
            device_class: "ssd".to_owned(),
            zone: None,
            price: 0,
            routers: 0,
            settings: String::new(),
        }
    }
}

/// A metadata node's settings.
pub(super) fn metad_toml(plan: &Plan, data: &Path, host: &Host, secret: &Path, peers: &[Host]) -> String {
    format!(
        "{}\ndata = {data:?}\nlisten = \"{}\"\nadvertise = \"{}\"\nadmin_listen = \"{}\"\n\
         cluster_secret_file = {secret:?}\npeers = {:?}\n",
        plan.metad_settings,
        host.at(METAD_PORT),
        host.at(METAD_PORT),
        host.at(METAD_ADMIN_PORT),
        addresses(peers),
    )
}

/// A vendor's settings.
pub(super) fn agent_toml(
    agent: &AgentPlan,
    name: &str,
    directory: &Path,
    host: &Host,
    metads: &[Host],
) -> String {
    let zone = agent.zone.clone().unwrap_or_else(|| format!("zone-{name}"));
    let mut text = format!(
        "{}\ndata = {:?}\nname = {name:?}\nlisten = \"{}\"\nadvertise = \"{}\"\nadmin_listen = \"{}\"\n\
         metad = {:?}\njoin_token_file = {:?}\nowner = \"tests\"\nregion = \"here\"\nzone = {zone:?}\n\
         rack = \"one\"\nprice = {}\n",
        agent.settings,
        directory.join("data"),
        host.at(AGENT_PORT),
        host.at(AGENT_PORT),
        host.at(AGENT_ADMIN_PORT),
        addresses(metads),
        directory.join(JOIN_TOKEN),
        agent.price,
    );
    for device in 1..=agent.devices {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[[device]]\npath = {:?}\ncapacity = {}\nclass = {:?}\n",
            device_path(directory, device),
            agent.device_capacity,
            agent.device_class,
        );
    }
    text
}

/// A gateway's settings.
pub(super) fn gateway_toml(
    plan: &Plan,
    data: &Path,
    host: &Host,
    metads: &[Host],
    files: &Secrets<'_>,
) -> String {
    let insecure = if host.ip.is_loopback() {
        ""
    } else {
        "insecure = true\n"
    };
    format!(
        "{}\ndata = {data:?}\nlisten = \"{}\"\nadmin_listen = \"{}\"\nmetad = {:?}\n\
         cluster_secret_file = {:?}\nkek_file = {:?}\nroot_access_key = {:?}\nroot_secret_key = {:?}\n{insecure}",
        plan.gateway_settings,
        host.at(S3_PORT),
        host.at(GATEWAY_ADMIN_PORT),
        addresses(metads),
        files.cluster_secret,
        files.kek,
        files.root.access_key,
        files.root.secret_key,
    )
}

/// What gateways are given.
pub(super) struct Secrets<'a> {
    /// File of the cluster secret.
    pub(super) cluster_secret: &'a Path,
    /// File of the key-encryption key.
    pub(super) kek: &'a Path,
    /// Root keys.
    pub(super) root: &'a crate::sign::Credentials,
}

/// Name of the file with a vendor's join token in its directory.
pub(super) const JOIN_TOKEN: &str = "join-token";

/// Device `number`, from 1, of a vendor.
pub(super) fn device_path(directory: &Path, number: u32) -> std::path::PathBuf {
    directory.join(format!("d{number}"))
}

fn addresses(metads: &[Host]) -> Vec<String> {
    metads
        .iter()
        .map(|host| host.at(METAD_PORT).to_string())
        .collect()
}
