//! `ullage admin bucket`.

use super::client::Client;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use ullage_model::units::parse_bytes;

/// What is done with buckets.
#[derive(Debug, Subcommand)]
pub(super) enum BucketCommand {
    /// All buckets with their exact usage and their quotas.
    List,
    /// One bucket with its exact usage and its quota.
    Show {
        /// Its name.
        bucket: String,
    },
    /// Set what a bucket may hold; a bound that is not given is taken away. Writes beyond it are refused with
    /// QuotaExceeded (403); what is there stays.
    Quota(NewQuota),
}

/// A quota to be set.
#[derive(Debug, Args)]
pub(super) struct NewQuota {
    /// The bucket's name.
    bucket: String,
    /// Most bytes of all objects, old versions and parts of open uploads among them: a number, alone or with KiB, MiB,
    /// GiB or TiB (k, m, g, t for short).
    #[arg(long, value_parser = parse_bytes, required_unless_present_any = ["objects", "none"])]
    bytes: Option<u64>,
    /// Most objects, old versions counted each.
    #[arg(long)]
    objects: Option<u64>,
    /// No bound at all.
    #[arg(long, conflicts_with_all = ["bytes", "objects"])]
    none: bool,
}

pub(super) async fn ask(client: &Client, command: &BucketCommand) -> anyhow::Result<Value> {
    match command {
        BucketCommand::List => client.pages("/v1/buckets", &[], "buckets").await,
        BucketCommand::Show { bucket } => client.get(&format!("/v1/buckets/{bucket}"), &[]).await,
        BucketCommand::Quota(quota) => {
            // With --none neither is given.
            let body = json!({ "bytes": quota.bytes, "objects": quota.objects });
            client
                .put(&format!("/v1/buckets/{}/quota", quota.bucket), &body)
                .await
        }
    }
}
