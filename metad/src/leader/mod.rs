//! Leader-only work: observe, then propose. Each duty looks at the applied state and proposes bounded
//! commands; `decide` alone settles what becomes of them.

pub mod allocate;
pub mod duties;
pub(crate) mod leadership;
pub mod soft_state;
