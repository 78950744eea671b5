//! The agent's ways to others over the network: to vendors, to the metadata service. What travels and when is
//! the agent's.

mod metad;
mod peers;

pub use metad::NetworkMetad;
pub use peers::NetworkPeers;
