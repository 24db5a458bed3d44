//! Soft and hard stop, and the named tasks that are waited for.
//!
//! Announced: everything goes on, but whoever shares work out is told to leave this node out. Soft: take nothing new, finish
//! what runs. Hard: end what runs. Every task of ours is spawned here, by name.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handle on the stopping of one node; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    announced: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    /// The soft stop of the whole node, of which this may be a part.
    whole: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Names of the tasks that are running, for the message that says who did not stop.
    running: Mutex<Vec<&'static str>>,
    /// How long a stop is announced before it begins.
    drain_time: Mutex<Duration>,
    /// The first essential task that ended by itself.
    fallen: Mutex<Option<&'static str>>,
    /// Whether the node stops because it can't go on, of which somebody told.
    gave_up: AtomicBool,
}

/// Puts a name on the list of running tasks, and takes it off when dropped, also in a panic.
struct Named {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Named {
    fn new(name: &'static str, shared: &Arc<Shared>) -> Self {
        shared.running.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Self { name, shared: Arc::clone(shared) }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|name| *name == self.name) {
            running.swap_remove(at);
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        let soft = CancellationToken::new();
        let (hard, announced, tracker, shared) = Default::default();
        Self { whole: soft.clone(), soft, hard, announced, tracker, shared }
    }
}

/// Stops the node if an essential task falls, whether it returns or panics.
struct Essential {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for Essential {
    fn drop(&mut self) {
        if !self.shutdown.is_stopping() {
            self.shutdown.shared.fallen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(self.name);
            self.shutdown.whole.cancel();
        }
    }
}

impl Shutdown {
    /// Nothing is stopping yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that may end whenever it is done.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let named = Named::new(name, &self.shared);
        self.tracker.spawn(async move {
            let _named = named;
            task.await
        })
    }

    /// Runs a task without which the node is of no use: if it ends before its part of the node stops, the whole node stops, as
    /// a failure.
    pub fn spawn_essential<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let essential = Essential { name, shutdown: self.clone() };
        self.spawn(name, async move {
            let _essential = essential;
            task.await;
        })
    }

    /// Runs a task that nobody waits for: one that goes on while the others end, as listening for signals does.
    #[expect(clippy::disallowed_methods, reason = "this is where it is allowed")]
    pub fn spawn_detached(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    /// Announces a soft stop, which has to be asked for later.
    pub fn drain(&self) {
        self.announced.cancel();
    }

    /// Whether a stop was announced or asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.announced.is_cancelled() || self.is_stopping()
    }

    /// How long a stop that a signal asks for is announced before it begins.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        *self.shared.drain_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets that time; zero unless somebody does.
    pub fn set_drain_time(&self, time: Duration) {
        *self.shared.drain_time.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Asks everything to finish and take nothing new.
    pub fn stop(&self) {
        self.announced.cancel();
        self.soft.cancel();
    }

    /// Asks everything to end now.
    pub fn stop_now(&self) {
        self.announced.cancel();
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Stops the whole node, softly, because it can't go on; whoever asks for it has told why.
    pub fn give_up(&self) {
        self.shared.gave_up.store(true, Ordering::Relaxed);
        self.whole.cancel();
    }

    /// Whether it was stopped because it can't go on.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.shared.gave_up.load(Ordering::Relaxed)
    }

    /// Whether a stop, soft or hard, was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Comes back when a soft (or hard) stop is asked for.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Comes back when a hard stop is asked for.
    pub async fn stopping_now(&self) {
        self.hard.cancelled().await;
    }

    /// A part of the node with a soft stop of its own, which also stops when the node does; tasks are counted together.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            announced: self.announced.child_token(),
            soft: self.soft.child_token(),
            hard: self.hard.child_token(),
            whole: self.whole.clone(),
            tracker: self.tracker.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// The essential task that ended by itself and so stopped the node, if one did.
    #[must_use]
    pub fn fallen(&self) -> Option<&'static str> {
        *self.shared.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, after a stop, until every task has ended.
    ///
    /// # Errors
    /// The names of those that still run after `patience`.
    pub async fn finished(&self, patience: Duration) -> Result<(), Vec<&'static str>> {
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let mut names = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        names.sort_unstable();
        Err(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_names_who_does_not_follow() {
        let shutdown = Shutdown::new();
        shutdown.spawn("deaf", std::future::pending::<()>());
        let obedient = shutdown.clone();
        shutdown.spawn("obedient", async move { obedient.stopping().await });
        shutdown.stop();
        assert_eq!(shutdown.finished(Duration::from_secs(1)).await, Err(vec!["deaf"]));
    }

    #[tokio::test]
    async fn an_essential_task_that_ends_stops_the_node_and_is_named() {
        let shutdown = Shutdown::new();
        shutdown.spawn_essential("listener", async {});
        shutdown.stopping().await;
        assert_eq!(shutdown.fallen(), Some("listener"));
        assert_eq!(shutdown.finished(Duration::from_secs(1)).await, Ok(()));
    }

    #[test]
    fn a_stop_is_announced_before_it_begins() {
        let shutdown = Shutdown::new();
        let part = shutdown.child();
        shutdown.drain();
        assert!(shutdown.is_draining() && part.is_draining() && !shutdown.is_stopping());
        let other = Shutdown::new();
        other.stop();
        assert!(other.is_draining(), "one that begins at once is announced, too");
        let hopeless = Shutdown::new();
        hopeless.child().give_up();
        assert!(hopeless.is_draining() && hopeless.is_stopping() && hopeless.gave_up() && !other.gave_up());
    }

    #[tokio::test]
    async fn an_essential_task_of_a_part_is_essential_as_long_as_the_part_lasts() {
        let whole = Shutdown::new();
        let part = whole.child();
        let stopping = part.clone();
        let task = part.spawn_essential("dispatcher", async move { stopping.stopping().await });
        part.stop();
        task.await.unwrap();
        assert!(!whole.is_stopping());
        whole.child().spawn_essential("dispatcher", async {});
        whole.stopping().await;
        assert_eq!(whole.fallen(), Some("dispatcher"));
    }

    #[tokio::test]
    async fn a_part_stops_alone_and_with_the_whole() {
        let whole = Shutdown::new();
        let part = whole.child();
        part.stop();
        assert!(part.is_stopping() && !whole.is_stopping());
        let other = whole.child();
        whole.stop_now();
        other.stopping_now().await;
    }
}
