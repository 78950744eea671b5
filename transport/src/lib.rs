//! How Ullage's services reach each other: the network behind a seam, mutual TLS with identities that come
//! from the cluster's own authority, and typed calls over HTTP/2. No service's words live here: routes and
//! messages belong to the services and to `ullage_model::wire`.

pub mod api;
pub mod authority;
mod body;
pub mod client;
pub mod credentials;
pub mod frame;
mod handshakes;
pub mod health;
pub mod identity;
pub mod network;
mod read_ahead;
pub mod secret_file;
pub mod server;
mod tls;
