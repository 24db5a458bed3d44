//! The messenger's key: made on first use exactly once, replaced, and the short overlap in which the former is valid too.
//!
//! The row of the setting holds the current key. A hidden row beside it holds the former; its time of change is when the
//! overlap began. Both are sealed at rest, and both change in one transaction.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::base::clock::{SharedClock, Timestamp};
use crate::config::schema::name::{FORMER_MESSENGER_KEY, MESSENGER_KEY};
use crate::control::{Actor, Control, Refusal};
use crate::messenger::secure::keys::Key;
use crate::model::node::Node;
use crate::model::setting::StoredSetting;
use crate::store::error::Error;
use crate::store::{Store, Transaction};

/// How long a former key is valid at most.
pub const OVERLAP: Duration = Duration::from_mins(1);
/// Who is said to have made the first key, and to have erased a former one.
const SELF: &str = "switchboard";

/// The messenger's keys as the database holds them.
#[derive(Debug)]
pub struct KeyState {
    /// The one to seal with.
    pub current: Key,
    /// The one before it, while it is still accepted.
    pub former: Option<Key>,
    /// Until when it is; none if there is no former.
    pub overlap_until: Option<Timestamp>,
}

impl KeyState {
    /// Whether the former key is to be forgotten: every node of `nodes` that lives by `patience` has applied the current one, or
    /// the time is up. A clock set back ends the overlap rather than stretch it. Also true when there is no former.
    #[must_use]
    pub fn overlap_is_over(&self, nodes: &[Node], now: Timestamp, patience: Duration) -> bool {
        let Some(until) = self.overlap_until else { return true };
        if now >= until || now < until.minus(OVERLAP) {
            return true;
        }
        let current = self.current.fingerprint();
        let mut live = nodes.iter().filter(|node| node.lives(now, patience)).peekable();
        // a list without live nodes says nothing: those that asked have not registered yet
        live.peek().is_some() && live.all(|node| node.key_fingerprint.as_deref() == Some(current.as_str()))
    }
}

/// The keys as they are now; none if there never was one. Changes show in [`Store::changes`].
///
/// # Errors
/// If the database fails, or what it holds is no key.
pub async fn current(store: &Store) -> Result<Option<KeyState>, Error> {
    let stored = store.settings().await?;
    let find = |name: &str| stored.iter().find(|setting| setting.name == name);
    let Some(current) = find(MESSENGER_KEY) else { return Ok(None) };
    let former = find(FORMER_MESSENGER_KEY);
    Ok(Some(KeyState {
        current: read(current)?,
        former: former.map(read).transpose()?,
        overlap_until: former.map(|former| former.changed_at.plus(OVERLAP)),
    }))
}

/// The keys; makes the first one if there is none yet, exactly once however many nodes start together.
///
/// # Errors
/// If the database fails, or what it holds is no key.
pub async fn settle(store: &Store, clock: &SharedClock) -> Result<KeyState, Error> {
    if let Some(state) = current(store).await? {
        return Ok(state);
    }
    let new = Key::generate().to_base64();
    let mut transaction = store.begin().await?;
    let text = transaction.settle_setting(MESSENGER_KEY, new.expose_secret(), true, SELF, clock.now()).await?;
    transaction.commit().await?;
    let current = Key::from_base64(&text).ok_or_else(no_key)?;
    Ok(KeyState { current, former: None, overlap_until: None })
}

/// Erases the former key if the overlap is over ([`KeyState::overlap_is_over`]), and gives the keys as they are then. Any
/// node may call it, as often as it likes: every second while there is a former key is right. `patience`: how long a silent
/// node is taken to live still.
///
/// # Errors
/// If the database fails, or what it holds is no key.
pub async fn end_overlap(store: &Store, clock: &SharedClock, patience: Duration) -> Result<Option<KeyState>, Error> {
    let is_over = async || {
        let Some(state) = current(store).await? else { return Ok((None, false)) };
        let over = state.former.is_some() && state.overlap_is_over(&store.nodes().await?, clock.now(), patience);
        Ok::<_, Error>((Some(state), over))
    };
    if let (state, false) = is_over().await? {
        return Ok(state);
    }
    let mut transaction = store.begin().await?;
    // again under the writer's lock: the key may have been replaced once more, which begins a new overlap
    let (state, over) = is_over().await?;
    if !over {
        return Ok(state);
    }
    transaction.save_setting(FORMER_MESSENGER_KEY, None, true, None, SELF, clock.now()).await?;
    transaction.commit().await?;
    Ok(state.map(|state| KeyState { former: None, overlap_until: None, ..state }))
}

fn read(stored: &StoredSetting) -> Result<Key, Error> {
    Key::from_base64(&stored.value).ok_or_else(no_key)
}

fn no_key() -> Error {
    Error::Conflict(format!("what the database holds as {MESSENGER_KEY} is no key; generate a new one in the settings"))
}

impl Control {
    /// Generates a new messenger key and saves it. The former stays valid for the overlap unless `at_once`.
    /// Gives the setting's new version.
    pub async fn generate_key(&self, actor: &Actor, seen: Option<i64>, at_once: bool) -> Result<i64, Refusal> {
        actor.must_act()?;
        if let Some(reason) = self.lock_reason(MESSENGER_KEY) {
            return Err(Refusal::invalid(MESSENGER_KEY, reason));
        }
        let new = Key::generate();
        let mut transaction = self.store.begin().await?;
        let version = self.replace_key(&mut transaction, actor, &new, seen, at_once).await?;
        transaction.commit().await?;
        self.wake(None);
        Ok(version)
    }

    /// Makes `new` the current key in this transaction, keeps or erases the former, and writes down who did.
    pub(super) async fn replace_key(
        &self,
        transaction: &mut Transaction,
        actor: &Actor,
        new: &Key,
        seen: Option<i64>,
        at_once: bool,
    ) -> Result<i64, Refusal> {
        let stored = self.store.settings().await?;
        let find = |name: &str| stored.iter().find(|setting| setting.name == name);
        let present = find(MESSENGER_KEY);
        // what can't be read as a key can't be used as one, and is not kept
        let former = present.filter(|_| !at_once).and_then(|present| Some((present, read(present).ok()?)));
        let now = self.clock.now();
        let value = new.to_base64();
        let saved = transaction
            .save_setting(MESSENGER_KEY, Some(value.expose_secret()), true, seen, &actor.who, now)
            .await
            .map_err(Refusal::from);
        let version = match saved {
            Err(Refusal::Conflict(_)) => return Err(self.changed_meanwhile(MESSENGER_KEY, seen, None).await?),
            other => other?,
        };
        let result = if let Some((former, key)) = &former {
            transaction.save_setting(FORMER_MESSENGER_KEY, Some(&former.value), true, None, &actor.who, now).await?;
            let seconds = OVERLAP.as_secs();
            format!("{} replaces {}, which is valid for {seconds} s more at most", new.fingerprint(), key.fingerprint())
        } else {
            if find(FORMER_MESSENGER_KEY).is_some() {
                transaction.save_setting(FORMER_MESSENGER_KEY, None, true, None, &actor.who, now).await?;
            }
            format!("{} replaces the former at once", new.fingerprint())
        };
        self.audit(transaction, actor, "setting:change", MESSENGER_KEY, result).await?;
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;
    use crate::model::node::Role;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const STALE: Duration = Duration::from_secs(15);

    fn node(heartbeat_at: Timestamp, fingerprint: Option<&str>) -> Node {
        Node {
            id: NodeId::new("service-1"),
            role: Role::Service,
            host: "box".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: heartbeat_at,
            heartbeat_at,
            stopped_at: None,
            key_fingerprint: fingerprint.map(str::to_owned),
            address: None,
            address_override: None,
            id_file: None,
        }
    }

    #[test]
    fn the_overlap_ends_when_every_live_node_applied_or_the_time_is_up() {
        let state = KeyState {
            current: Key::generate(),
            former: Some(Key::generate()),
            overlap_until: Some(NOW.plus(OVERLAP)),
        };
        let current = state.current.fingerprint();
        let applied = node(NOW, Some(&current));
        let behind = node(NOW, Some("0123456789abcdef"));
        let silent = node(NOW.minus(STALE), None);
        let stopped = Node { stopped_at: Some(NOW), ..behind.clone() };
        for (nodes, now, over) in [
            (vec![], NOW, false),
            (vec![applied.clone()], NOW, true),
            (vec![applied.clone(), behind.clone()], NOW, false),
            (vec![applied.clone(), silent.clone()], NOW, true),
            (vec![applied, stopped], NOW, true),
            (vec![silent], NOW, false),
            (vec![behind.clone()], NOW.plus(OVERLAP), true),
            (vec![behind], NOW.minus(Duration::from_secs(1)), true),
        ] {
            assert_eq!(state.overlap_is_over(&nodes, now, STALE), over, "{nodes:?} at {now}");
        }
    }

    #[test]
    fn without_a_former_key_there_is_no_overlap() {
        let state = KeyState { current: Key::generate(), former: None, overlap_until: None };
        assert!(state.overlap_is_over(&[], NOW, STALE));
    }

    #[test]
    fn keys_are_not_printed() {
        let state = KeyState { current: Key::generate(), former: None, overlap_until: None };
        let text = state.current.to_base64();
        assert!(!format!("{state:?}").contains(text.expose_secret()));
    }
}
