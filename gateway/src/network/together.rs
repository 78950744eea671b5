//! Calls that come together travel together: while as many messages as may be are on their way, further calls wait,
//! and go as one message when the next has been answered. A call that finds nothing on its way goes at once, so
//! that one alone never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use ullage_model::wire::metad::MetadError;

/// Messages on their way at a time.
const UNDER_WAY: usize = 2;
/// Calls that may wait …
const WAITING: usize = 16 * 1024;
/// … and their bytes.
const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Bounds of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Calls in it.
    pub(super) calls: usize,
    /// Their bytes; the first may exceed it.
    pub(super) bytes: usize,
}

/// A call that waits.
struct Waiting<Req, Resp> {
    number: u64,
    bytes: usize,
    request: Req,
    tell: oneshot::Sender<Result<Resp, MetadError>>,
}

struct Queue<Req, Resp> {
    waiting: VecDeque<Waiting<Req, Resp>>,
    /// Of those.
    waiting_bytes: usize,
    next: u64,
    under_way: usize,
}

/// Calls of one kind.
pub(super) struct Together<Req, Resp> {
    bounds: Bounds,
    queue: Mutex<Queue<Req, Resp>>,
}

impl<Req, Resp> Together<Req, Resp>
where
    Req: Send + 'static,
    Resp: Send + 'static,
{
    /// Nothing waits yet.
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                next: 0,
                under_way: 0,
            }),
        })
    }

    /// Makes a call of `bytes`, with whatever else waits; `send` sends a message and answers each of its calls in
    /// their order. One that is not on its way within `patience` is not made.
    pub(super) async fn call<F, Sent>(
        self: &Arc<Self>,
        request: Req,
        bytes: usize,
        patience: Duration,
        send: F,
    ) -> Result<Resp, MetadError>
    where
        F: Fn(Vec<Req>) -> Sent + Send + 'static,
        Sent: Future<Output = Vec<Result<Resp, MetadError>>> + Send,
    {
        let (tell, mut told) = oneshot::channel();
        let (number, turn) = {
            let mut queue = self.queue();
            let is_full = queue.waiting.len() >= WAITING
                || (!queue.waiting.is_empty() && queue.waiting_bytes + bytes > WAITING_BYTES);
            if is_full {
                return Err(MetadError::Overloaded);
            }
            let number = queue.next;
            queue.next += 1;
            queue.waiting_bytes += bytes;
            queue.waiting.push_back(Waiting {
                number,
                bytes,
                request,
                tell,
            });
            let free = queue.under_way < UNDER_WAY;
            queue.under_way += usize::from(free);
            (
                number,
                free.then(|| Turn {
                    together: Arc::clone(self),
                    over: false,
                }),
            )
        };
        if let Some(turn) = turn {
            // A task of its own: whoever began it may give up without harming the others.
            tokio::spawn(async move { turn.run(send).await });
        }
        let lost = || Err(MetadError::Unknown("the call was given up".to_owned()));
        match tokio::time::timeout(patience, &mut told).await {
            Ok(answered) => answered.unwrap_or_else(|_| lost()),
            Err(_) if self.withdraw(number) => Err(MetadError::Unavailable(
                "the calls before it have not been answered".to_owned(),
            )),
            // It is on its way, which ends by itself.
            Err(_) => told.await.unwrap_or_else(|_| lost()),
        }
    }

    /// Takes a call back, unless it is on its way.
    fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let at = queue
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number);
        let Some(withdrawn) = at.ok().and_then(|at| queue.waiting.remove(at)) else {
            return false;
        };
        queue.waiting_bytes -= withdrawn.bytes;
        true
    }

    /// The calls of the next message, if any wait that somebody still wants answered.
    fn take(&self) -> Vec<Waiting<Req, Resp>> {
        let mut queue = self.queue();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(first) = queue.waiting.front() {
            let fits = taken.is_empty() || bytes + first.bytes <= self.bounds.bytes;
            if taken.len() >= self.bounds.calls || !fits {
                break;
            }
            let Some(first) = queue.waiting.pop_front() else {
                break;
            };
            queue.waiting_bytes -= first.bytes;
            if !first.tell.is_closed() {
                bytes += first.bytes;
                taken.push(first);
            }
        }
        taken
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Req, Resp>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to have messages on their way, one after the other.
struct Turn<Req, Resp>
where
    Req: Send + 'static,
    Resp: Send + 'static,
{
    together: Arc<Together<Req, Resp>>,
    over: bool,
}

impl<Req, Resp> Turn<Req, Resp>
where
    Req: Send + 'static,
    Resp: Send + 'static,
{
    async fn run<F, Sent>(mut self, send: F)
    where
        F: Fn(Vec<Req>) -> Sent + Send,
        Sent: Future<Output = Vec<Result<Resp, MetadError>>> + Send,
    {
        while !self.is_over() {
            let taken = self.together.take();
            if taken.is_empty() {
                continue;
            }
            let (requests, tells): (Vec<_>, Vec<_>) =
                taken.into_iter().map(|call| (call.request, call.tell)).unzip();
            let mut answers = send(requests).await.into_iter();
            for tell in tells {
                let short = || Err(MetadError::Unknown("the answer is too short".to_owned()));
                // Whoever has stopped waiting does not want to know.
                drop(tell.send(answers.next().unwrap_or_else(short)));
            }
        }
    }

    /// Gives the turn back if nothing waits. Nothing is missed: whoever comes later finds the turn free.
    fn is_over(&mut self) -> bool {
        let mut queue = self.together.queue();
        self.over = queue.waiting.is_empty();
        queue.under_way -= usize::from(self.over);
        self.over
    }
}

impl<Req, Resp> Drop for Turn<Req, Resp>
where
    Req: Send + 'static,
    Resp: Send + 'static,
{
    fn drop(&mut self) {
        if !self.over {
            self.together.queue().under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "a test fails by panicking; its numbers are small"
    )]

    use super::{Arc, Bounds, Duration, MetadError, Together, UNDER_WAY};
    use std::sync::Mutex;
    use tokio::sync::Semaphore;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// The messages that were sent, each answered when there is leave.
    #[derive(Clone)]
    struct Sent {
        messages: Arc<Mutex<Vec<Vec<u32>>>>,
        leave: Arc<Semaphore>,
    }

    impl Sent {
        fn new() -> Self {
            Self {
                messages: Arc::default(),
                leave: Arc::new(Semaphore::new(0)),
            }
        }

        async fn send(self, message: Vec<u32>) -> Vec<Result<u32, MetadError>> {
            self.messages.lock().unwrap().push(message.clone());
            self.leave.acquire().await.unwrap().forget();
            message.into_iter().map(|number| Ok(number * 10)).collect()
        }

        fn messages(&self) -> Vec<Vec<u32>> {
            self.messages.lock().unwrap().clone()
        }
    }

    fn call(
        together: &Arc<Together<u32, u32>>,
        sent: &Sent,
        number: u32,
        patience: Duration,
    ) -> tokio::task::JoinHandle<Result<u32, MetadError>> {
        let (together, sent) = (Arc::clone(together), sent.clone());
        tokio::spawn(async move {
            let send = move |message| sent.clone().send(message);
            together.call(number, 10, patience, send).await
        })
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_together_within_bounds_and_in_order() {
        let together = Together::new(Bounds { calls: 4, bytes: 30 });
        let sent = Sent::new();
        let mut calls = Vec::new();
        for number in 0..9 {
            calls.push(call(&together, &sent, number, PATIENCE));
            settle().await;
        }
        let alone: Vec<Vec<u32>> = (0..UNDER_WAY as u32).map(|number| vec![number]).collect();
        assert_eq!(sent.messages(), alone, "the first ones go at once, by themselves");
        sent.leave.add_permits(100);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Ok(number as u32 * 10));
        }
        let mut together_sent = sent.messages().split_off(UNDER_WAY);
        together_sent.sort();
        assert_eq!(together_sent, [vec![2, 3, 4], vec![5, 6, 7], vec![8]]);
        let later = call(&together, &sent, 9, PATIENCE);
        assert_eq!(later.await.unwrap(), Ok(90), "the turns were given back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_in_bytes() {
        let bytes = super::WAITING_BYTES / 2;
        let together = Together::new(Bounds { calls: 4, bytes });
        let sent = Sent::new();
        let call = |number| {
            let (together, sent) = (Arc::clone(&together), sent.clone());
            tokio::spawn(async move {
                let send = move |message| sent.clone().send(message);
                together.call(number, bytes, PATIENCE, send).await
            })
        };
        let mut taken = Vec::new();
        for number in 0..UNDER_WAY as u32 + 2 {
            taken.push(call(number));
            settle().await;
        }
        assert_eq!(call(9).await.unwrap(), Err(MetadError::Overloaded));
        sent.leave.add_permits(100);
        for (number, call) in taken.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Ok(number as u32 * 10));
        }
        assert_eq!(call(9).await.unwrap(), Ok(90), "the room was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_withdrawn_or_awaited_but_never_in_doubt_by_waiting() {
        let together = Together::new(Bounds { calls: 4, bytes: 30 });
        let sent = Sent::new();
        let short = Duration::from_secs(1);
        let mut on_their_way = Vec::new();
        for number in 0..UNDER_WAY as u32 {
            on_their_way.push(call(&together, &sent, number, short));
            // Each by itself: else the first message takes the other along, and leaves its turn free.
            settle().await;
        }
        let gave_up = call(&together, &sent, 7, PATIENCE);
        let waits = call(&together, &sent, 8, short);
        settle().await;
        gave_up.abort();
        let withdrawn = waits.await.unwrap();
        assert!(
            matches!(withdrawn, Err(MetadError::Unavailable(_))),
            "{withdrawn:?}"
        );
        sent.leave.add_permits(100);
        for (number, call) in on_their_way.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Ok(number as u32 * 10), "late, but answered");
        }
        settle().await;
        assert_eq!(
            sent.messages().len(),
            UNDER_WAY,
            "nobody wanted the others answered"
        );
    }
}
