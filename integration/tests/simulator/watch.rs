//! What goes wrong without anybody's asking: panics in tasks, which their runtime swallows, and log lines that say a
//! person must look. And the digest of all that the services and the network did.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic of this process from now on, and goes on printing them.
pub fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(panic.to_string());
        }
        before(panic);
    }));
}

/// The panics so far.
pub fn panics() -> Vec<String> {
    PANICS.lock().map(|panics| panics.clone()).unwrap_or_default()
}

/// What the subscriber keeps.
#[derive(Debug, Default)]
pub struct Kept {
    /// Digest over all events so far.
    hasher: blake3::Hasher,
    /// Their number.
    pub events: u64,
    /// Lines of level ERROR.
    pub errors: Vec<String>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Forgets what gateways called errors: while no copy of a chunk can be reached, they are right to call for somebody.
/// What any other service calls one stays.
pub fn forgive_gateways() {
    KEPT.with_borrow_mut(|kept| kept.errors.retain(|line| !line.contains(" ullage_gateway::")));
}

/// Takes what this thread's subscriber kept.
pub fn take_kept() -> Kept {
    KEPT.take()
}

impl Kept {
    /// The digest of all events.
    pub fn digest(&self) -> String {
        self.hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// Hears all events of the services and, as the network's, who sent to whom and what arrived.
#[derive(Debug)]
pub struct Subscribed {
    /// Prints events of this level and above.
    pub print: Option<Level>,
    /// Hears the network too: for the digest.
    pub network: bool,
}

struct Line {
    text: String,
    network: bool,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // What a message says in bytes is encrypted under keys that differ from run to run.
        if self.network && !matches!(field.name(), "src" | "dst" | "message") {
            return;
        }
        // Writing to a string does not fail.
        let _ = write!(self.text, " {}={value:?}", field.name());
    }
}

const NETWORK: &str = "turmoil";

impl Subscriber for Subscribed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let network = metadata.target().starts_with(NETWORK);
        if metadata.is_span() {
            return false;
        }
        if network {
            return self.network;
        }
        let level = if metadata.target().starts_with("ullage") {
            self.print.unwrap_or(Level::INFO).max(Level::INFO)
        } else {
            self.print.unwrap_or(Level::WARN).max(Level::WARN)
        };
        *metadata.level() <= level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let network = metadata.target().starts_with(NETWORK);
        // A host's crash is told outside its runtime, where time goes on as on the wall while this machine is slow.
        let timed = !network && turmoil::in_simulation();
        let now = timed.then(turmoil::sim_elapsed).flatten();
        let now = now.unwrap_or_default();
        let mut line = Line {
            text: format!(
                "{:>9.3} {} {}",
                now.as_secs_f64(),
                metadata.level(),
                metadata.target()
            ),
            network,
        };
        event.record(&mut line);
        KEPT.with_borrow_mut(|kept| {
            kept.events += 1;
            kept.hasher.update(line.text.as_bytes());
            if *metadata.level() == Level::ERROR {
                kept.errors.push(line.text.clone());
            }
        });
        if self.print.is_some_and(|print| *metadata.level() <= print) {
            println!("{}", line.text);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
