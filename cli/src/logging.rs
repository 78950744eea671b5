//! Logs: to standard error, quiet when all is well. `ULLAGE_LOG` filters them (`info`, `ullage_gateway=debug`),
//! `ULLAGE_LOG_FORMAT=json` makes each line an object.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Unless told otherwise: what is amiss, and the audit log (`ullage_gateway::audit::AUDIT`).
const QUIET: &str = "warn,openraft=error,ullage_audit=info";

/// Starts logging for the whole process.
pub fn start() {
    let filter = EnvFilter::try_from_env("ULLAGE_LOG").unwrap_or_else(|_| EnvFilter::new(QUIET));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if std::env::var("ULLAGE_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.with_target(false).init();
    }
}

#[cfg(test)]
mod tests {
    use super::QUIET;

    #[test]
    fn changes_are_logged_unless_told_otherwise() {
        let audit = format!("{}=info", ullage_gateway::audit::AUDIT);
        assert!(QUIET.split(',').any(|directive| directive == audit));
    }
}
