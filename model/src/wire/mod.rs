//! Messages between services, as plain values.

pub mod agent;
pub mod chunk;
pub mod enrol;
pub mod leader;
pub mod members;
pub mod metad;
pub mod probe;
pub mod routes;
