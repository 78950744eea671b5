//! Which table shows which answer.

use super::buckets::BucketCommand;
use super::print::Table;
use super::{ClassCommand, Command, FatCommand, KeyCommand, LeaseCommand, UserCommand, VendorCommand};
use serde_json::Value;

/// The table for what a command was answered.
pub(super) fn table(command: &Command, answer: &Value) -> Table {
    match command {
        Command::Status => Table::facts(answer),
        Command::Vendor(VendorCommand::List) => Table::rows(
            answer,
            &[
                ("VENDOR", "/vendor"),
                ("NAME", "/name"),
                ("STATE", "/state"),
                ("ADDRESS", "/address"),
                ("ZONE", "/zone"),
                ("DEVICES", "/devices/*/state"),
                ("FREE", "/room/free"),
                ("LEASED", "/room/leased"),
                ("USED", "/room/used"),
                ("ERASING", "/room/erasing"),
            ],
        ),
        Command::Vendor(VendorCommand::LocalFat { .. }) => Table::rows(
            answer,
            &[
                ("CHUNK", "/chunk"),
                ("LEASE", "/lease"),
                ("BYTES", "/length"),
                ("PIECES", "/pieces"),
            ],
        ),
        Command::Fat(FatCommand::Copies { .. }) => {
            Table::rows(answer, &[("CHUNK", "/chunk"), ("LEASE", "/lease")])
        }
        Command::Class(ClassCommand::List) => Table::rows(
            answer,
            &[
                ("CLASS", "/name"),
                ("COPIES", "/copies"),
                ("ZONES", "/zones"),
                ("DEVICE CLASS", "/device_class"),
                ("MAX PRICE", "/max_price"),
                ("PIECES", "/pieces"),
                ("CHUNK", "/chunk_bytes"),
            ],
        ),
        Command::Fat(FatCommand::Show { .. }) => Table::object(answer),
        Command::Fat(FatCommand::List { .. }) => Table::rows(
            answer,
            &[
                ("BUCKET", "/bucket"),
                ("KEY", "/key"),
                ("VERSION", "/version"),
                ("BYTES", "/length"),
                ("CLASS", "/class"),
                ("WHERE", "/place"),
            ],
        ),
        Command::Lease(LeaseCommand::List) => Table::rows(
            answer,
            &[
                ("LEASE", "/lease"),
                ("SESSION", "/session"),
                ("CLASS", "/class"),
                ("STATE", "/state"),
                ("LEFT ms", "/left_ms"),
                ("VENDORS", "/rows/*/vendor"),
                ("LOCKED", "/rows/*/locked"),
                ("SETTLED", "/rows/*/settled"),
            ],
        ),
        Command::Path { .. } => Table::rows(
            answer,
            &[
                ("VENDOR", "/vendor"),
                ("SCORE", "/score"),
                ("RTT us", "/rtt_us"),
                ("HOPS", "/hops"),
                ("LATENCY us", "/latency_us"),
                ("BYTES/s", "/bytes_per_second"),
                ("FAILURES", "/failure_rate"),
                ("IN FLIGHT", "/in_flight"),
                ("DISCARDED", "/discarded"),
            ],
        ),
        Command::Metad(_) => Table::rows(
            answer.get("members").unwrap_or(&Value::Null),
            &[
                ("NODE", "/node"),
                ("ADDRESS", "/address"),
                ("VOTES", "/voter"),
                ("LEADS", "/leads"),
                ("HAS UP TO", "/matched_index"),
                ("SILENT ms", "/silent_ms"),
            ],
        ),
        Command::Bucket(BucketCommand::List) => Table::rows(
            answer,
            &[
                ("BUCKET", "/name"),
                ("OBJECTS", "/objects"),
                ("VERSIONS", "/versions"),
                ("BYTES", "/bytes"),
                ("UPLOADS", "/uploads"),
                ("PART BYTES", "/part_bytes"),
                ("QUOTA BYTES", "/quota_bytes"),
                ("QUOTA OBJECTS", "/quota_objects"),
            ],
        ),
        Command::User(UserCommand::List) => Table::rows(
            answer,
            &[("USER", "/user"), ("NAME", "/name"), ("POLICY", "/policy")],
        ),
        Command::Key(KeyCommand::List) => {
            Table::rows(answer, &[("ACCESS KEY", "/access_key"), ("USER", "/user")])
        }
        Command::Bucket(BucketCommand::Show { .. } | BucketCommand::Quota(_))
        | Command::Class(ClassCommand::Set(_))
        | Command::User(UserCommand::Create(_) | UserCommand::Policy { .. })
        | Command::Invite(_)
        | Command::Vendor(VendorCommand::Revoke { .. })
        | Command::Key(KeyCommand::Delete { .. }) => Table::facts(answer),
    }
}
