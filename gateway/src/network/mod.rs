//! The other services as this gateway reaches them over the network: the same traits that calls within one process
//! implement. What is said is `ullage_model::wire`, how it travels is `ullage_transport`; what to do when it
//! fails is the data path's business, except for finding a metadata node that answers.

mod agents;
mod metad;
mod probing;
mod put;
mod together;

pub use agents::NetworkAgents;
pub use metad::NetworkMetad;

/// Connections for calls that are small and urgent.
const LANE_CALLS: u8 = 0;
/// Connections for chunks on their way to vendors.
const LANE_CHUNKS: u8 = 1;
/// Connections for chunks on their way from vendors.
const LANE_READS: u8 = 2;
