//! Messages between services, as plain values.

pub mod agent;
pub mod chunk;
pub mod metad;
