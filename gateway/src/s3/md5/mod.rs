//! MD5, the ETag's digest: the dearest part of a large PUT, because a chain of MD5 waits for itself at every step.
//! Independent chains do not, so bodies that are being uploaded at the same time are hashed side by side
//! (`kernel.rs`): a hasher lets bytes wait until there are many, and then takes along what waits elsewhere. The longer
//! they wait, the more of the others have something to be taken along: a connection's bytes come in bursts.
//! Which thread does the work is chance; no thread and no task is kept for it.

mod kernel;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use kernel::{LANES, worth_while};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use stream::{Stream, Waiting, take_first};

/// An MD5 digest.
pub type Md5Digest = [u8; 16];

/// Bodies up to this are hashed as they come.
const ALONE_BYTES: u64 = 4 * 1024;
/// Bytes that wait before a hasher takes its turn while there are too few others to go with.
const TURN_BYTES_ALONE: usize = 128 * 1024;
/// Bytes that wait before a hasher takes its turn. One read off the wire may go beyond.
const TURN_BYTES: usize = 512 * 1024;
/// Pieces that wait at most: one of a few bytes may keep alive the whole buffer that was read into. Connections that fill
/// their buffers have fewer, the others need no company to keep up.
const PIECES: usize = 64;
/// Bytes for which another's turn takes a message along.
const ALONG_BYTES: usize = 4 * 1024;
/// Messages that are looked at for one turn, of which the fullest go along.
const CANDIDATES: usize = 4 * LANES;

/// Those whose bytes may wait.
static SHARED: Shared = Shared {
    messages: Mutex::new(Messages {
        all: Vec::new(),
        swept: 0,
    }),
    turn: Mutex::new(()),
};

struct Shared {
    messages: Mutex<Messages>,
    /// Held by who hashes for all: two at a time would share the lanes.
    turn: Mutex<()>,
}

/// Messages, oldest first; some are over.
struct Messages {
    all: Vec<Weak<Message>>,
    /// How many were left when those that are over were last swept out.
    swept: usize,
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

    /// Hashes all that waits, and nothing of others.
    fn take_own(&self) {
        let mut stream = lock(&self.stream);
        take_first(&mut [self.waiting(&mut stream)]);
    }

    /// What was not taken of it, before what came meanwhile; the caller holds `stream`.
    fn put_back(&self, left: VecDeque<Bytes>) {
        let mut inbox = lock(&self.inbox);
        for piece in left.into_iter().rev() {
            inbox.bytes += piece.len();
            inbox.pieces.push_front(piece);
        }
    }
}

impl Shared {
    fn join(&self, message: &Arc<Message>) {
        let mut messages = lock(&self.messages);
        if messages.all.len() > 2 * messages.swept + LANES {
            messages.all.retain(|one| one.strong_count() > 0);
            messages.swept = messages.all.len();
        }
        messages.all.push(Arc::downgrade(message));
    }

    /// Whether there are enough messages for it to be worth while to wait for each other.
    fn is_company(&self) -> bool {
        let alive = |one: &&Weak<Message>| one.strong_count() > 0;
        let messages = lock(&self.messages);
        messages.all.iter().filter(alive).nth(worth_while() - 1).is_some()
    }

    /// Hashes what waits for `own`, if that is much.
    fn hash(&self, own: &Message, waiting: usize) {
        if !self.is_company() {
            // Nobody to share lanes with: nobody to wait for either.
            own.take_own();
        } else if waiting >= TURN_BYTES {
            self.turn(own);
        }
    }

    /// Hashes all that waits for `own`, and in the same strokes of what waits for others as much as is worth while.
    fn turn(&self, own: &Message) {
        // Whoever has the turn may be hashing these very bytes.
        let _turn = lock(&self.turn);
        if own.waiting_bytes() == 0 {
            return;
        }
        let mut others: Vec<(usize, Arc<Message>)> = lock(&self.messages)
            .all
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|other| !std::ptr::eq(&**other, own))
            .map(|other| (other.waiting_bytes(), other))
            .filter(|(bytes, _)| *bytes >= ALONG_BYTES)
            .take(CANDIDATES)
            .collect();
        others.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        others.truncate(LANES - 1);
        let mut streams = vec![(own, lock(&own.stream))];
        // One that is locked is being finished by its owner.
        streams.extend(
            others
                .iter()
                .filter_map(|(_, other)| Some((&**other, try_lock(&other.stream)?))),
        );
        let mut waiting: Vec<Waiting<'_>> = streams
            .iter_mut()
            .map(|(message, stream)| message.waiting(stream))
            .collect();
        take_first(&mut waiting);
        let left: Vec<VecDeque<Bytes>> = waiting.into_iter().map(|one| one.bytes).collect();
        for ((message, _stream), left) in streams.iter().zip(left) {
            message.put_back(left);
        }
    }
}

/// MD5 of a stream of bytes. Holds up to half a MiB of them back, in a few pieces, and what one read off the wire gives.
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
        if self.shared.is_none() && self.alone.bytes() + bytes.len() as u64 <= ALONE_BYTES {
            self.alone.update(bytes);
            return;
        }
        let message = self.shared.get_or_insert_with(|| {
            let message = Arc::new(Message {
                stream: Mutex::new(mem::take(&mut self.alone)),
                inbox: Mutex::default(),
            });
            SHARED.join(&message);
            message
        });
        let (pieces, waiting) = {
            let mut inbox = lock(&message.inbox);
            inbox.pieces.push_back(bytes.clone());
            inbox.bytes += bytes.len();
            (inbox.pieces.len(), inbox.bytes)
        };
        if pieces >= PIECES && waiting < TURN_BYTES {
            message.take_own();
        } else if waiting >= TURN_BYTES_ALONE {
            SHARED.hash(message, waiting);
        }
    }

    /// The digest.
    pub fn finish(self) -> Md5Digest {
        let Some(message) = self.shared else {
            return self.alone.finish();
        };
        if message.waiting_bytes() >= ALONG_BYTES && SHARED.is_company() {
            SHARED.turn(&message);
        }
        message.take_own();
        mem::take(&mut *lock(&message.stream)).finish()
    }
}

/// MD5 of one buffer.
pub fn md5(bytes: &[u8]) -> Md5Digest {
    let mut stream = Stream::default();
    stream.update(bytes);
    stream.finish()
}
