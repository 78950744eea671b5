//! The audit log: which changes leave a line, and what it says.

use super::Gateway;
use serde_json::json;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the audit log's lines, of all tests of this process.
struct Kept;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == ullage_gateway::audit::AUDIT
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line_with(wanted: &[&str]) -> bool {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines
        .iter()
        .any(|line| wanted.iter().all(|word| line.contains(word)))
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_leave_lines_that_say_what_was_made() {
    tracing::subscriber::set_global_default(Kept).expect("no other test keeps lines");
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let made = client.send("PUT", "/audited", &[], b"").await.expect(200);
    let request = |id: Option<&str>| format!("request_id={}", id.expect("an id"));
    let line = [
        request(made.header("x-amz-request-id")),
        "access_key=\"AKROOT\"".into(),
        "operation=\"CreateBucket\" bucket=\"audited\" outcome=\"done\"".into(),
    ];
    assert!(line_with(&line.each_ref().map(String::as_str)), "{line:?}");
    client.send("PUT", "/audited/k", &[], b"").await.expect(200);
    let kept = client.send("DELETE", "/audited", &[], b"").await;
    kept.expect_error(409, "BucketNotEmpty");
    let id = request(kept.header("x-amz-request-id"));
    assert!(line_with(&[
        &id,
        "operation=\"DeleteBucket\"",
        "outcome=\"BucketNotEmpty\""
    ]));
    client.send("DELETE", "/audited/k", &[], b"").await.expect(204);
    let gone = client.send("DELETE", "/audited", &[], b"").await.expect(204);
    let id = request(gone.header("x-amz-request-id"));
    assert!(line_with(&[
        &id,
        "operation=\"DeleteBucket\"",
        "bucket=\"audited\"",
        "outcome=\"done\""
    ]));

    let new =
        json!({"name": "ann", "access_key": "AKANN", "secret_key": "never in a log", "policy": "readonly"});
    let admin = gateway.admin_client();
    for (status, outcome) in [(200, "outcome=\"done\""), (409, "outcome=\"Refused\"")] {
        let body = new.to_string();
        let made = admin.send("POST", "/v1/users", &[], body.as_bytes());
        made.await.expect(status);
        let who = "user=\"root\"";
        assert!(line_with(&[who, "made=\"ann\"", "access_key=\"AKANN\"", outcome]));
        assert!(line_with(&[who, "path=\"/v1/users\"", outcome]));
    }
    assert!(!line_with(&["never in a log"]));
}
