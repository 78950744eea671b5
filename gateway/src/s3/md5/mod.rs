//! MD5, the ETag's digest: the dearest part of a large PUT, because a chain of MD5 waits for itself at every step.
//! Independent chains do not, so bodies that are being uploaded at the same time are hashed side by side
//! (`kernel.rs`): a hasher lets bytes wait until there are enough, and then takes along what waits elsewhere.
//! Which thread does the work is chance; no thread and no task is kept for it.

mod kernel;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use kernel::LANES;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use stream::{Stream, Waiting, take_all};

/// An MD5 digest.
pub type Md5Digest = [u8; 16];

/// Bodies up to this are hashed as they come.
const ALONE_BYTES: u64 = 64 * 1024;
/// Bytes that wait before a hasher takes its turn.
const TURN_BYTES: usize = 128 * 1024;
/// Bytes for which another's turn takes a message along.
const ALONG_BYTES: usize = 16 * 1024;
/// Bytes that may wait at most: while somebody else has the turn, a hasher with more goes on by itself.
const WAITING_BYTES_MAX: usize = 512 * 1024;

/// Those whose bytes may wait.
static SHARED: Shared = Shared {
    messages: Mutex::new(Vec::new()),
    turn: Mutex::new(()),
};

struct Shared {
    messages: Mutex<Vec<Weak<Message>>>,
    /// Held by who hashes for all: two at a time would share the lanes.
    turn: Mutex<()>,
}

/// A message whose bytes may wait. `stream` is locked before `inbox`, and whoever empties the inbox holds both:
/// so bytes are taken in their order.
#[derive(Debug, Default)]
struct Message {
    stream: Mutex<Stream>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Message {
    fn waiting_bytes(&self) -> usize {
        lock(&self.inbox).bytes
    }

    /// What waits; the caller holds `stream`.
    fn waiting<'a>(&self, stream: &'a mut Stream) -> Waiting<'a> {
        let inbox = mem::take(&mut *lock(&self.inbox));
        Waiting {
            stream,
            bytes: inbox.pieces,
        }
    }
}

impl Shared {
    fn join(&self, message: &Arc<Message>) {
        let mut messages = lock(&self.messages);
        messages.retain(|one| one.strong_count() > 0);
        messages.push(Arc::downgrade(message));
    }

    /// Hashes what waits for `own` and, in the same strokes, for others.
    fn turn(&self, own: &Message) {
        let Some(_turn) = try_lock(&self.turn) else {
            if own.waiting_bytes() > WAITING_BYTES_MAX {
                let mut stream = lock(&own.stream);
                take_all(&mut [own.waiting(&mut stream)]);
            }
            return;
        };
        let others: Vec<Arc<Message>> = lock(&self.messages)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|other| !std::ptr::eq(&**other, own) && other.waiting_bytes() >= ALONG_BYTES)
            .take(LANES - 1)
            .collect();
        let mut streams = vec![(own, lock(&own.stream))];
        // One that is locked is being finished by its owner.
        streams.extend(
            others
                .iter()
                .filter_map(|other| Some((&**other, try_lock(&other.stream)?))),
        );
        let mut waiting: Vec<Waiting<'_>> = streams
            .iter_mut()
            .map(|(message, stream)| message.waiting(stream))
            .collect();
        take_all(&mut waiting);
    }
}

/// MD5 of a stream of bytes. Holds up to half a MiB of them back.
#[derive(Debug, Default)]
pub struct Md5Hasher {
    alone: Stream,
    shared: Option<Arc<Message>>,
}

impl Md5Hasher {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &Bytes) {
        let Some(message) = &self.shared else {
            self.alone.update(bytes);
            if self.alone.bytes() > ALONE_BYTES {
                let message = Arc::new(Message {
                    stream: Mutex::new(mem::take(&mut self.alone)),
                    inbox: Mutex::default(),
                });
                SHARED.join(&message);
                self.shared = Some(message);
            }
            return;
        };
        let waiting = {
            let mut inbox = lock(&message.inbox);
            inbox.pieces.push_back(bytes.clone());
            inbox.bytes += bytes.len();
            inbox.bytes
        };
        if waiting >= TURN_BYTES {
            SHARED.turn(message);
        }
    }

    /// The digest.
    pub fn finish(self) -> Md5Digest {
        let Some(message) = self.shared else {
            return self.alone.finish();
        };
        if message.waiting_bytes() >= ALONG_BYTES {
            SHARED.turn(&message);
        }
        let mut stream = lock(&message.stream);
        take_all(&mut [message.waiting(&mut stream)]);
        mem::take(&mut *stream).finish()
    }
}

/// MD5 of one buffer.
pub fn md5(bytes: &[u8]) -> Md5Digest {
    let mut stream = Stream::default();
    stream.update(bytes);
    stream.finish()
}
