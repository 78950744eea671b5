//! The File Allocation Table: vendors, their room, who holds which part of it, and where every chunk lives.

pub mod keys;
pub mod rows;
