//! Who belongs to the cluster: metadata nodes that come and go, vendors that are invited.

use super::client::Client;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum MetadCommand {
    /// All nodes, and which one leads.
    List,
    /// Make the node at an address a member. It must run, be empty, and have the cluster's secret.
    Add(NewMember),
    /// Remove a member. Refused when the others would be no majority that is there.
    Remove {
        /// Its id, as `metad list` shows it.
        node: String,
    },
    /// Hand the leadership over, e.g. before maintenance.
    Transfer {
        /// To which node; to any that has caught up, if none is named.
        node: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewMember {
    /// HOST:PORT that the node advertises.
    address: String,
    /// The member whose place it takes: removed in the same change. Name a node here that is lost, or whose
    /// disk is.
    #[arg(long, value_name = "NODE")]
    replaces: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum InviteCommand {
    /// Make a join token, good once, for a server that is to offer room. Prints it on standard output.
    Vendor(Invitation),
}

#[derive(Debug, Args)]
pub(super) struct Invitation {
    /// How long the token is good: 90m, 24h, 7d.
    #[arg(long, default_value = "24h", value_parser = life)]
    life: Duration,
}

/// A duration as people write it: a whole number and s, m, h or d.
fn life(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: give a number and s, m, h or d, like 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

pub(super) async fn metad(client: &Client, command: &MetadCommand) -> anyhow::Result<Value> {
    match command {
        MetadCommand::List => client.get("/v1/metad", &[]).await,
        MetadCommand::Add(member) => {
            let body = json!({"address": member.address, "replaces": member.replaces});
            client.post("/v1/metad", &body).await
        }
        MetadCommand::Remove { node } => client.delete(&format!("/v1/metad/{node}")).await,
        MetadCommand::Transfer { node } => client.post("/v1/metad/transfer", &json!({"to": node})).await,
    }
}

pub(super) async fn invite(client: &Client, invitation: &Invitation) -> anyhow::Result<Value> {
    let life_ms = u64::try_from(invitation.life.as_millis()).unwrap_or(u64::MAX);
    client.post("/v1/invitations", &json!({"life_ms": life_ms})).await
}

/// The token on standard output, so that it can go into a file as it is; what to do with it beside it.
pub(super) fn print_invitation(answer: &Value) -> anyhow::Result<()> {
    let token = answer.get("token").and_then(Value::as_str);
    let token = token.ok_or_else(|| anyhow::anyhow!("the answer has no token"))?;
    eprintln!(
        "This token lets one vendor in, once. Put it into a file at the vendor that only its agent can read, and \
         name\nthe file by `join_token_file` in the agent's settings (or --join-token-file):\n"
    );
    println!("{token}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::life;
    use std::time::Duration;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(life("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(life("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        for text in [
            "",
            "h",
            "24",
            "1.5h",
            "-1h",
            "0s",
            "99999999999999999999d",
            "2w",
            "1é",
        ] {
            assert!(life(text).is_err(), "{text}");
        }
    }
}
