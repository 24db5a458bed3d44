//! Tries an endpoint and a key before they are saved: the same for the command line and for pages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::base::id::NodeId;
use crate::config::schema::name::MESSENGER_ENDPOINT;
use crate::config::settings::Settings;
use crate::config::value::{BadValue, Kind};
use crate::control::{Actor, Control, Refusal, primary};
use crate::messenger::doctor::{self, Examination};
use crate::messenger::endpoint::Endpoint;
use crate::messenger::secure::SharedKeys;
use crate::messenger::secure::keys::{Key, KeyRing};
use crate::store::Store;
use crate::store::error::Error as StoreError;

/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(10);

/// So many users at once make a web node dial.
const AT_ONCE: usize = 4;

/// The next attempt of the same user begins so long after the one before: nobody scans a network with it.
const PACE: Duration = Duration::from_secs(2);

/// What `endpoint` means as a value of `Service.MessengerEndpoint`.
///
/// # Errors
/// If the text is no endpoint: what is wrong with it and what is allowed.
pub fn endpoint(text: &str, data: &Path) -> Result<Endpoint, BadValue> {
    Ok(Endpoint::from_setting(&Kind::Endpoint.check(text)?, data))
}

/// Tries an endpoint with these keys. What names no host, `tcp://*:port`, is tried as the web node `own` would dial it, and that is
/// said.
///
/// # Errors
/// If the database fails.
pub async fn examine(
    endpoint: &Endpoint,
    store: &Store,
    own: &NodeId,
    keys: &KeyRing,
) -> Result<Examination, StoreError> {
    let target = primary::to_dial(store, endpoint, own).await?;
    let mut found = examine_there(&target.endpoint, keys).await;
    if endpoint.is_wildcard() {
        let tried = match target.primary {
            Some(primary) => format!("tried was {}, where the primary {primary} is to be reached", target.endpoint),
            None => format!("no service node is primary, so this machine was tried, {}", target.endpoint),
        };
        found.said = format!("{}; {endpoint} names no host: {tried}", found.said);
    }
    Ok(found)
}

/// Tries an endpoint that names a host, with these keys: no database is needed.
pub async fn examine_there(endpoint: &Endpoint, keys: &KeyRing) -> Examination {
    doctor::examine(endpoint, keys, LIMIT).await
}

/// What the doctor of a web node works with, and for whom it works just now.
pub struct Practice {
    node: NodeId,
    keys: SharedKeys,
    data: PathBuf,
    attempts: Mutex<BTreeMap<String, Attempt>>,
}

/// A user's last attempt.
struct Attempt {
    began: Instant,
    under_way: bool,
}

impl Practice {
    /// On this node, with the keys in force, and the data directory for the local pipe.
    #[must_use]
    pub fn new(node: NodeId, keys: SharedKeys, data: PathBuf) -> Self {
        Self { node, keys, data, attempts: Mutex::default() }
    }

    /// A place for this user, and how long it is to wait for its turn; none if it has one already, or too many have.
    fn admit(&self, who: &str) -> Option<(Place<'_>, Duration)> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.retain(|_, attempt| attempt.under_way || attempt.began.elapsed() < PACE);
        let under_way = attempts.values().filter(|attempt| attempt.under_way).count();
        let before = attempts.get(who);
        if under_way >= AT_ONCE || before.is_some_and(|before| before.under_way) {
            return None;
        }
        let wait = before.map_or(Duration::ZERO, |before| PACE.saturating_sub(before.began.elapsed()));
        attempts.insert(who.to_owned(), Attempt { began: Instant::now() + wait, under_way: true });
        drop(attempts);
        Some((Place { practice: self, who: who.to_owned() }, wait))
    }
}

/// Whoever waits for the doctor; dropped, the next may come.
struct Place<'a> {
    practice: &'a Practice,
    who: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut attempts = self.practice.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = attempts.get_mut(&self.who) {
            attempt.under_way = false;
        }
    }
}

impl Control {
    /// Tries an endpoint and a key from this node before they are saved; empty ones are those in force. One at a time for each
    /// user, and not one after the other without a pause. It is audited without the key, and before it is tried: it makes this node
    /// dial whatever was typed, and who asks may be gone before there is an answer.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::Invalid`] for `endpoint` or `key`, or [`Refusal::Busy`].
    pub async fn try_link(&self, actor: &Actor, endpoint: &str, key: &SecretString) -> Result<Examination, Refusal> {
        actor.must_act()?;
        let Some(practice) = &self.practice else {
            return Err(Refusal::Conflict("this process has no messenger to try".into()));
        };
        let busy = "an attempt is under way; one takes 12 s at most, so try again in a moment";
        let typed = key.expose_secret().trim();
        let key = match typed {
            "" => None,
            text => Some(Key::from_base64(text).ok_or_else(|| {
                Refusal::invalid("key", "it is no key; allowed: 32 bytes in base64 (44 characters, ending in `=`)")
            })?),
        };
        let typed_keys = key.map(KeyRing::new);
        let text = match endpoint.trim() {
            "" => self.endpoint_in_force().await?,
            text => text.to_owned(),
        };
        let endpoint =
            self::endpoint(&text, &practice.data).map_err(|why| Refusal::invalid("endpoint", why.to_string()))?;
        let keys = typed_keys.as_ref().unwrap_or(&practice.keys);
        let (_place, wait) = practice.admit(&actor.who).ok_or_else(|| Refusal::Busy(busy.into()))?;
        tokio::time::sleep(wait).await;
        let with = format!("with key {}", keys.fingerprint());
        let mut transaction = self.store.begin().await?;
        self.audit(&mut transaction, actor, "messenger:try", &endpoint.to_string(), with).await?;
        transaction.commit().await?;
        Ok(examine(&endpoint, &self.store, &practice.node, keys).await?)
    }

    async fn endpoint_in_force(&self) -> Result<String, Refusal> {
        let stored = self.store.settings().await?;
        let pairs = stored.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
        Ok(Settings::resolve(&self.fixed, pairs).0.text(MESSENGER_ENDPOINT).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_attempt_at_a_time_for_each_user_with_a_pause_and_few_in_all() {
        let practice = Practice::new(NodeId::new("web-1"), Arc::new(KeyRing::new(Key::generate())), PathBuf::new());
        let ann = practice.admit("ann").unwrap();
        assert!(practice.admit("ann").is_none());
        let others: Vec<_> = (0..AT_ONCE).filter_map(|n| practice.admit(&n.to_string())).collect();
        assert_eq!(others.len(), AT_ONCE - 1);
        drop((ann, others));
        let (again, wait) = practice.admit("ann").unwrap();
        assert!(wait > Duration::ZERO, "too soon");
        drop(again);
        tokio::time::advance(PACE).await;
        assert!(practice.admit("ann").is_some());
        assert_eq!(practice.attempts.lock().unwrap().len(), 1, "nobody is remembered for longer");
    }
}
