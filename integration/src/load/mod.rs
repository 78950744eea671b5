//! The benchmark: a load generator for S3 that is cheap on the client side, rounds that compare two
//! endpoints, the rows of the published table, and the bounds of the machine printed beside them.
//!
//! Requests are signed with `UNSIGNED-PAYLOAD` over plain HTTP; sockets have `TCP_NODELAY`, and
//! `TCP_QUICKACK` is set again before each response, since some servers otherwise wait 40 ms for a
//! delayed acknowledgement and a comparison would flatter the others.

pub mod bound;
pub mod commits;
pub mod compare;
pub mod disk;
pub mod garage;
pub mod lane;
pub mod report;
pub mod run;
pub mod stats;
pub mod table;
pub mod target;
pub mod workload;
