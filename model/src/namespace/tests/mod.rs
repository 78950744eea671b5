//! Tests of the namespace, all through `decide`: each command is followed by a check of every invariant.

mod access;
mod bounds;
mod buckets;
mod copies;
mod listing;
mod listing_uploads;
mod location;
mod objects;
mod parts;
mod reference_model;
mod releases;
mod sums;
mod tags;
mod uploads;
mod users;
mod versions;
mod world;
