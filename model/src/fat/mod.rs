//! The File Allocation Table: vendors, their room, who holds which part of it, and where every chunk lives.

pub mod allocate;
pub mod class;
pub mod close;
pub mod cluster;
pub mod damage;
pub mod invariants;
pub mod keys;
pub mod placement;
pub mod query;
pub mod release;
pub mod room;
pub mod rows;
pub mod settle;
pub mod vendor;
