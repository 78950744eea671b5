//! The one binary, `ullage`: what the command line says, and the services it composes. No logic of theirs.

mod admin;
mod keygen;
mod logging;
mod service;
mod standalone;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// RocksDB's C++ uses it too. It takes a tenth less processor time per small PUT than glibc's, and its background
/// thread gives back what a burst of uploads needed (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One S3-compatible object store out of the unfilled disk space of many servers.
#[derive(Debug, Parser)]
#[command(name = "ullage", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole store in one process: metadata service, vendors and S3 gateway.
    Standalone(standalone::Options),
    /// Run a metadata node: one of those that keep the FAT.
    Metad(service::metad::Options),
    /// Run an S3 gateway.
    Gateway(service::gateway::Options),
    /// Run a vendor agent: offer this server's room.
    VendorAgent(service::vendor_agent::Options),
    /// Write a fresh secret (a key-encryption key or a cluster secret) to a new file, mode 0600.
    Keygen(keygen::Options),
    /// Look at a running store and change its settings.
    Admin(admin::Options),
}

/// The caller gave something that cannot be: a flag, a setting, a file. Exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadConfiguration(String);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start();
    let done = match arguments.command {
        Command::Standalone(options) => standalone::run(options),
        Command::Metad(options) => service::metad::run(&options),
        Command::Gateway(options) => service::gateway::run(options),
        Command::VendorAgent(options) => service::vendor_agent::run(options),
        Command::Keygen(options) => keygen::run(&options),
        Command::Admin(options) => admin::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ullage: {}", told(&error));
            ExitCode::from(if error.is::<BadConfiguration>() { 2 } else { 1 })
        }
    }
}

/// An error with its causes, but for those whose words it says already.
fn told(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !words.ends_with(&cause) {
            let separator = if words.is_empty() { "" } else { ": " };
            words = format!("{words}{separator}{cause}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn no_two_flags_of_a_command_have_one_name() {
        Arguments::command().debug_assert();
        // Every command has --version but the one for which it is a version of an object's.
        for (words, understood) in [
            (["fat", "show", "bucket/key", "--version", "null"], true),
            (["fat", "list", "--user", "alice", "--version"], false),
        ] {
            let parsed = Arguments::try_parse_from(["ullage", "admin"].iter().chain(&words));
            assert_eq!(parsed.is_ok(), understood, "{words:?}");
        }
    }
}
