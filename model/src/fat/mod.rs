//! The File Allocation Table: vendors, their room, who holds which part of it, and where every chunk lives.
//!
//! Bytes of a vendor's room, by device class, go round in one circle, and [`room`] moves them:
//!
//! ```text
//!             allocate                 settle                 drain
//!   free ───────────────► leased ───────────────► used ───────────────► erasing
//!    ▲                      │                                              │
//!    │  shrink, or the      │                                              │
//!    ├──────────────────────┘                                              │
//!    │  close, confirmed                                                   │
//!    └─────────────────────────────────────────────────────────────────────┘
//!                                acknowledge
//! ```
//!
//! A lease is open, then closing (returned, past its deadline, or its session ended; nothing is settled under
//! it any more), then gone when every vendor it names has confirmed. A copy is good or damaged while
//! something refers to its blob; released, it waits in the queue, becomes an erase order, and goes with the
//! vendor's acknowledgement. Nothing ever goes back.
//!
//! One transition per file: [`cluster`], [`vendor`], [`class`] (settings), [`allocate`], [`settle`],
//! [`close`], [`release`], [`damage`], [`invite`], [`member`]. What reads only is in [`query`], [`placement`],
//! [`choice`] and [`invariants`].
//! The namespace meets the FAT in settling and in release, nowhere else.
//!
//! What holds after every command, checked by [`invariants`]:
//! - leased, used and erasing of each room are exactly what unconfirmed leases, chunk rows and erase orders
//!   add up to, and capacity is what the vendor's devices make;
//! - the copies index names exactly the copies in chunk rows;
//! - every chunk that is not being erased belongs to one version, building blob, shared blob or release;
//! - nothing is both released and referred to.

pub mod allocate;
pub mod choice;
pub mod class;
pub mod close;
pub mod cluster;
pub mod damage;
pub mod invariants;
pub mod invite;
pub mod keys;
pub mod member;
pub mod placement;
pub mod query;
pub mod release;
pub mod room;
pub mod rows;
pub mod settle;
pub mod vendor;
