//! `ullage admin`: asks the gateway's admin port and prints what it says. The API itself is the gateway's.

mod buckets;
mod client;
mod credentials;
mod members;
mod print;
mod tables;

use anyhow::Context;
use buckets::BucketCommand;
use clap::{Args, Subcommand};
use client::Client;
use credentials::variable;
pub use credentials::{CREDENTIALS_FILE, Credentials};
use members::{InviteCommand, MetadCommand};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Region that requests are signed for if nobody says another: the gateway's own default.
const DEFAULT_REGION: &str = "us-east-1";

/// Options of `ullage admin`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the gateway's admin API is.
    #[arg(long, default_value = "http://127.0.0.1:9001", env = "ULLAGE_ADMIN_ENDPOINT")]
    endpoint: String,
    /// Data directory of a standalone store: keys are taken from its credentials file.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Access key; else AWS_ACCESS_KEY_ID, else --data.
    #[arg(long, requires = "secret_key")]
    access_key: Option<String>,
    /// Secret key; else AWS_SECRET_ACCESS_KEY, else --data.
    #[arg(long, requires = "access_key")]
    secret_key: Option<String>,
    /// Region that requests are signed for; else AWS_REGION, else AWS_DEFAULT_REGION, else us-east-1.
    #[arg(long)]
    region: Option<String>,
    /// Print JSON for programs instead of tables for people.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the store does: room, sessions, leases, backlogs.
    Status,
    /// Servers that offer room.
    #[command(subcommand)]
    Vendor(VendorCommand),
    /// Placement rules (storage classes).
    #[command(subcommand)]
    Class(ClassCommand),
    /// Where chunks are.
    #[command(subcommand)]
    Fat(FatCommand),
    /// Provisional FATs.
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Paths from this gateway to the vendors: round trip, hops, throughput, score, and why one is discarded.
    Path {
        #[command(subcommand)]
        command: Option<PathCommand>,
    },
    /// The metadata service's own nodes.
    #[command(subcommand)]
    Metad(MetadCommand),
    /// Invitations.
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Users of S3.
    #[command(subcommand)]
    User(UserCommand),
    /// Access keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Buckets: what they hold and what they may hold.
    #[command(subcommand)]
    Bucket(BucketCommand),
}

#[derive(Debug, Subcommand)]
enum VendorCommand {
    /// All vendors with their devices and room.
    List,
    /// Shut a vendor out, for good: nothing is stored at it or read from it any more, and its copies count as
    /// lost.
    Revoke {
        /// The vendor's number, as `vendor list` shows it.
        vendor: u64,
    },
    /// The copies that a vendor says it holds: its local FAT.
    LocalFat {
        /// The vendor's number, as `vendor list` shows it.
        vendor: u64,
    },
}

#[derive(Debug, Subcommand)]
enum ClassCommand {
    /// All classes.
    List,
    /// Make a class, or replace its rule.
    Set(ClassRule),
}

#[derive(Debug, Args)]
struct ClassRule {
    /// Its name, which S3 clients give as the storage class.
    name: String,
    /// Copies of each chunk, each at a vendor of its own.
    #[arg(long)]
    copies: u32,
    /// Distinct zones the copies must lie in.
    #[arg(long, default_value_t = 0)]
    zones: u32,
    /// Device class the copies must lie on.
    #[arg(long)]
    device_class: Option<String>,
    /// Greatest price of a vendor.
    #[arg(long)]
    max_price: Option<u64>,
    /// Least pieces that a vendor cuts a chunk into.
    #[arg(long, default_value_t = 1)]
    pieces: u32,
    /// Plaintext bytes of a chunk: a multiple of 32768 between 1 and 16 MiB.
    #[arg(long = "chunk", default_value_t = 4 * 1024 * 1024)]
    chunk_bytes: u64,
}

#[derive(Debug, Subcommand)]
enum FatCommand {
    /// Where an object's bytes are: chunks, copies, pieces, scores.
    #[command(disable_version_flag = true)]
    Show {
        /// BUCKET/KEY.
        object: String,
        /// One of its old versions, or `null`; without it the current one.
        #[arg(long)]
        version: Option<String>,
    },
    /// The FAT of all objects that a user stored, old versions among them (yours, unless --user names another).
    List {
        /// Whose objects; only the root user may ask for others'.
        #[arg(long)]
        user: Option<String>,
    },
    /// The copies that the FAT says a vendor holds.
    Copies {
        /// The vendor's number, as `vendor list` shows it.
        vendor: u64,
    },
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Open and closing leases with their rows.
    List,
}

#[derive(Debug, Subcommand)]
enum PathCommand {
    /// The same.
    List,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a user with an access key.
    Create(NewUser),
    /// All users.
    List,
    /// What a user may do; with a policy, change it.
    Policy {
        /// The user's name.
        name: String,
        /// `readwrite`, `readonly`, `none` (nothing but what buckets grant), or a file with a policy document.
        policy: Option<String>,
    },
}

#[derive(Debug, Args)]
struct NewUser {
    /// Its name.
    name: String,
    /// Its access key; without one, keys are made and shown this once.
    #[arg(long, requires = "secret_key")]
    access_key: Option<String>,
    /// Its secret key.
    #[arg(long, requires = "access_key")]
    secret_key: Option<String>,
    /// `readwrite`, `readonly`, `none` (nothing but what buckets grant), or a file with a policy document.
    #[arg(long, default_value = "readwrite")]
    policy: String,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// All access keys with their users.
    List,
    /// Delete an access key: requests signed with it are refused from now on.
    Delete {
        /// The access key.
        access_key: String,
    },
}

/// Runs `ullage admin`.
pub fn run(options: Options) -> anyhow::Result<()> {
    let given = options.access_key.clone().zip(options.secret_key.clone());
    let credentials = Credentials::find(given, options.data.as_deref())?;
    let region = options
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.as_deref().unwrap_or(DEFAULT_REGION);
    let client = Client::new(&options.endpoint, region, credentials)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let answer = runtime.block_on(ask(&client, &options.command))?;
    // A policy's document is JSON for people too.
    let is_document = answer.get("policy").is_some_and(Value::is_object);
    if options.json || is_document {
        return print::json(&answer);
    }
    if let Command::Invite(InviteCommand::Vendor(_)) = &options.command {
        return members::print_invitation(&answer);
    }
    print::text(&tables::table(&options.command, &answer))
}

async fn ask(client: &Client, command: &Command) -> anyhow::Result<Value> {
    match command {
        Command::Status => client.get("/v1/status", &[]).await,
        Command::Vendor(VendorCommand::List) => client.get("/v1/vendors", &[]).await,
        Command::Vendor(VendorCommand::Revoke { vendor }) => {
            client
                .post(&format!("/v1/vendors/{vendor}/revoke"), &json!({}))
                .await
        }
        Command::Vendor(VendorCommand::LocalFat { vendor }) => {
            client
                .pages(&format!("/v1/vendors/{vendor}/copies"), &[], "copies")
                .await
        }
        Command::Class(ClassCommand::List) => client.get("/v1/classes", &[]).await,
        Command::Class(ClassCommand::Set(rule)) => set_class(client, rule).await,
        Command::Fat(FatCommand::Show { object, version }) => {
            let (bucket, key) = object
                .split_once('/')
                .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
                .with_context(|| format!("{object} does not name an object: give BUCKET/KEY"))?;
            let mut named = vec![("bucket", bucket), ("key", key)];
            named.extend(version.as_deref().map(|version| ("version", version)));
            client.get("/v1/fat/object", &named).await
        }
        Command::Fat(FatCommand::List { user }) => {
            let user: Vec<(&str, &str)> = user.iter().map(|user| ("user", user.as_str())).collect();
            client.pages("/v1/fat/user", &user, "objects").await
        }
        Command::Fat(FatCommand::Copies { vendor }) => {
            client
                .pages(&format!("/v1/fat/vendor/{vendor}"), &[], "copies")
                .await
        }
        Command::Lease(LeaseCommand::List) => client.get("/v1/leases", &[]).await,
        Command::Path { .. } => client.get("/v1/paths", &[]).await,
        Command::Metad(command) => members::metad(client, command).await,
        Command::Invite(InviteCommand::Vendor(invitation)) => members::invite(client, invitation).await,
        Command::User(UserCommand::Create(user)) => create_user(client, user).await,
        Command::User(UserCommand::List) => client.get("/v1/users", &[]).await,
        Command::User(UserCommand::Policy { name, policy: new }) => {
            policy(client, name, new.as_deref()).await
        }
        Command::Bucket(command) => buckets::ask(client, command).await,
        Command::Key(KeyCommand::List) => client.get("/v1/keys", &[]).await,
        Command::Key(KeyCommand::Delete { access_key }) => {
            client.delete(&format!("/v1/keys/{access_key}")).await
        }
    }
}

async fn set_class(client: &Client, rule: &ClassRule) -> anyhow::Result<Value> {
    let body = json!({
        "copies": rule.copies,
        "zones": rule.zones,
        "device_class": rule.device_class,
        "max_price": rule.max_price,
        "pieces": rule.pieces,
        "chunk_bytes": rule.chunk_bytes,
    });
    client.put(&format!("/v1/classes/{}", rule.name), &body).await
}

async fn create_user(client: &Client, user: &NewUser) -> anyhow::Result<Value> {
    #[derive(Serialize)]
    struct Body<'a> {
        name: &'a str,
        access_key: &'a str,
        secret_key: &'a str,
        policy: Box<RawValue>,
    }
    let given = user.access_key.clone().zip(user.secret_key.clone());
    let is_given = given.is_some();
    let keys = match given {
        Some((access_key, secret_key)) => Credentials {
            access_key,
            secret_key,
        },
        None => Credentials::fresh()?,
    };
    let body = Body {
        name: &user.name,
        access_key: &keys.access_key,
        secret_key: &keys.secret_key,
        policy: policy_named(&user.policy)?,
    };
    let mut answer = client.post("/v1/users", &body).await?;
    if let Some(made) = answer.as_object_mut().filter(|_| !is_given) {
        made.insert("secret_key".to_owned(), keys.secret_key.into());
    }
    Ok(answer)
}

async fn policy(client: &Client, name: &str, policy: Option<&str>) -> anyhow::Result<Value> {
    #[derive(Serialize)]
    struct Body<'a> {
        user: &'a str,
        policy: Box<RawValue>,
    }
    match policy {
        None => client.get("/v1/users/policy", &[("user", name)]).await,
        Some(policy) => {
            let policy = policy_named(policy)?;
            client.put("/v1/users/policy", &Body { user: name, policy }).await
        }
    }
}

/// A policy's name, or the document in a file, as it is written there.
fn policy_named(policy: &str) -> anyhow::Result<Box<RawValue>> {
    if matches!(policy, "readwrite" | "readonly" | "none") {
        return Ok(serde_json::value::to_raw_value(policy)?);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        crate::BadConfiguration(format!(
            "--policy {policy}: neither readwrite, readonly or none, nor a file with a policy: {error}"
        ))
    };
    let text = std::fs::read_to_string(policy).map_err(|error| wrong(&error))?;
    Ok(RawValue::from_string(text).map_err(|error| wrong(&error))?)
}
