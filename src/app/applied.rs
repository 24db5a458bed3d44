//! Writes down what this node made of each setting, so that pages can tell where a change is in force and where not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::chain::chain;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::config::schema::SETTINGS;
use crate::config::schema::name::{MESSENGER_ALLOWED_NETWORKS, MESSENGER_ENDPOINT, MESSENGER_KEY};
use crate::config::settings::Settings;
use crate::model::setting::NodeSetting;
use crate::store::Store;
use crate::store::error::Error;

/// What could not be written is tried again, at the latest after this.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Whether what was written stands there still is looked at so far apart at least: somebody may have removed this node, which registers anew
/// then.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Those that need more than to be taken up: a new link, say. Whoever applies them says what came of it.
const APPLIED_ELSEWHERE: &[&str] = &[MESSENGER_ENDPOINT, MESSENGER_KEY, MESSENGER_ALLOWED_NETWORKS];

/// Says what came of settings that need more than to be taken up, in place of what was said of them before.
pub fn say<const N: usize>(told: &watch::Sender<Vec<NodeSetting>>, news: [NodeSetting; N]) {
    told.send_if_modified(|known| {
        let is_news = news.iter().any(|told| !known.contains(told));
        known.retain(|known| news.iter().all(|told| told.setting != known.setting));
        known.extend(news);
        is_news
    });
}

/// Writes, now and after every change, what is in force on this node. All other settings than the messenger's are in force as
/// soon as they are known; what became of those, `messenger` says.
pub fn keep_telling(
    store: &Store,
    node: &NodeId,
    mut settings: watch::Receiver<Arc<Settings>>,
    mut messenger: watch::Receiver<Vec<NodeSetting>>,
    clock: &SharedClock,
    shutdown: &Shutdown,
) {
    let (store, node, clock, stopping) = (store.clone(), node.clone(), Arc::clone(clock), shutdown.clone());
    shutdown.spawn("settings applied", async move {
        let mut word = Word::default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut again = None;
        let mut revisions = store.changes();
        let mut look_at: Option<Instant> = None;
        loop {
            word.take_up(&settings.borrow_and_update(), clock.now());
            for told in messenger.borrow_and_update().iter() {
                word.take(told.clone());
            }
            again = match word.write(&store, &node).await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(error) => {
                    if again.is_none() {
                        tracing::warn!(
                            "which settings are in force here could not be written; it is tried again: {}",
                            chain(&error)
                        );
                    }
                    Some(backoff.next_delay())
                }
            };
            let due = async {
                match again {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            let look = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                changed = settings.changed() => if changed.is_err() { return },
                Ok(()) = messenger.changed() => {}
                Ok(()) = revisions.changed(), if look_at.is_none() => look_at = Some(Instant::now() + LOOK_AGAIN),
                () = look => {
                    look_at = None;
                    revisions.borrow_and_update();
                    // a database that is away is looked at again with its next change
                    let _ = word.look(&store, &node).await;
                }
                () = stopping.stopping() => return,
            }
        }
    });
}

/// What this node says of each setting.
#[derive(Default)]
struct Word {
    said: BTreeMap<String, NodeSetting>,
    unwritten: BTreeSet<String>,
    /// Whether what a former life said is gone.
    is_begun: bool,
}

impl Word {
    fn take_up(&mut self, settings: &Settings, now: Timestamp) {
        // a secret is not told; what has to be told of one, whoever applies it says
        for setting in SETTINGS.iter().filter(|known| !known.secret && !APPLIED_ELSEWHERE.contains(&known.name)) {
            let resolved = settings.get(setting.name);
            let (value, fixed) = (&resolved.value, resolved.source.locks());
            let is_known = self.said.get(setting.name).is_some_and(|said| said.wanted == *value && said.fixed == fixed);
            if !is_known {
                self.take(NodeSetting {
                    setting: setting.name.to_owned(),
                    wanted: value.clone(),
                    in_force: value.clone(),
                    fixed,
                    since: now,
                    error: None,
                });
            }
        }
    }

    fn take(&mut self, told: NodeSetting) {
        if self.said.get(&told.setting) != Some(&told) {
            self.unwritten.insert(told.setting.clone());
            self.said.insert(told.setting.clone(), told);
        }
    }

    /// If what was written is gone, everything is to be said anew.
    async fn look(&mut self, store: &Store, node: &NodeId) -> Result<(), Error> {
        if self.is_begun && store.told_settings(node).await? < self.said.len() {
            self.unwritten.extend(self.said.keys().cloned());
        }
        Ok(())
    }

    async fn write(&mut self, store: &Store, node: &NodeId) -> Result<(), Error> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let mut transaction = store.begin().await?;
        if !self.is_begun {
            transaction.forget_node_settings(node).await?;
        }
        for name in &self.unwritten {
            if let Some(told) = self.said.get(name) {
                transaction.tell_node_setting(node, told).await?;
            }
        }
        transaction.commit().await?;
        self.is_begun = true;
        self.unwritten.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::POLL_INTERVAL;
    use crate::config::settings::{Fixed, Source};

    #[test]
    fn what_is_said_of_one_setting_leaves_what_was_said_of_others() {
        let told = |setting: &str, value: &str| NodeSetting {
            setting: setting.to_owned(),
            wanted: value.to_owned(),
            in_force: value.to_owned(),
            fixed: false,
            since: Timestamp::from_micros(1),
            error: None,
        };
        let (sender, mut receiver) = watch::channel(Vec::new());
        say(&sender, [told(MESSENGER_ENDPOINT, "pipe:/a"), told(MESSENGER_KEY, "7f3a")]);
        say(&sender, [told(MESSENGER_ALLOWED_NETWORKS, "10.0.0.0/8")]);
        receiver.mark_unchanged();
        say(&sender, [told(MESSENGER_ENDPOINT, "pipe:/a")]);
        assert!(!receiver.has_changed().unwrap(), "the same again is no news");
        say(&sender, [told(MESSENGER_ENDPOINT, "pipe:/b")]);
        let mut said: Vec<_> = receiver.borrow_and_update().iter().map(|told| told.in_force.clone()).collect();
        said.sort();
        assert_eq!(said, ["10.0.0.0/8", "7f3a", "pipe:/b"]);
    }

    #[test]
    fn only_what_changed_is_said_again_and_no_secret_ever() {
        let mut word = Word::default();
        word.take_up(&Settings::default(), Timestamp::from_micros(1));
        assert_eq!(word.unwritten.len(), SETTINGS.len() - APPLIED_ELSEWHERE.len());
        assert!(APPLIED_ELSEWHERE.iter().all(|name| !word.said.contains_key(*name)));
        word.unwritten.clear();
        word.take_up(&Settings::default(), Timestamp::from_micros(2));
        assert!(word.unwritten.is_empty());
        let mut fixed = Fixed::default();
        fixed.set(POLL_INTERVAL, "20s", Source::Environment).unwrap();
        word.take_up(&Settings::resolve(&fixed, []).0, Timestamp::from_micros(3));
        assert_eq!(word.unwritten.iter().collect::<Vec<_>>(), [POLL_INTERVAL]);
        let said = &word.said[POLL_INTERVAL];
        assert_eq!((said.in_force.as_str(), said.fixed, said.since), ("20s", true, Timestamp::from_micros(3)));
    }
}
