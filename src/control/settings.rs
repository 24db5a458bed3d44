//! Saving settings: all or none, each checked, versioned and written down.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::config::schema::Setting;
use crate::config::schema::name::{MESSENGER_ENDPOINT, MESSENGER_KEY};
use crate::config::settings::{Settings, Source, unknown_setting};
use crate::config::together::Clash;
use crate::control::{Actor, Change, Control, Refusal, quoted};
use crate::messenger::secure::keys::Key;
use crate::model::setting::{NodeSetting, StoredSetting};
use crate::store::error::Error;

/// How long a look at a path of the file system may take: what stands there may not answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// A change that can be made.
struct Checked {
    setting: &'static Setting,
    /// In canonical form; none: back to the default.
    value: Option<String>,
    seen: Option<i64>,
}

impl Control {
    /// Saves settings, all or none: unknown, locked and ill-typed ones are refused, with the reason beside each.
    /// Gives the new versions in order; a setting that has the value already keeps its version.
    pub async fn save_settings(&self, actor: &Actor, changes: Vec<Change>) -> Result<Vec<(String, i64)>, Refusal> {
        actor.must_act()?;
        let checked = self.check(changes).await?;
        let mut transaction = self.store.begin().await?;
        let stored = self.store.settings().await?;
        // again under the writer's lock: two who save at once must not make a pair that does not go together
        let wrong = self.check_together(&checked, &stored);
        if !wrong.is_empty() {
            return Err(Refusal::Invalid(wrong));
        }
        let mut versions = Vec::with_capacity(checked.len());
        let mut is_changed = false;
        for Checked { setting, value, seen } in checked {
            let present = stored.iter().find(|stored| stored.name == setting.name);
            let version = match present {
                Some(present) => present.version,
                None => self.store.setting_history(Some(setting.name), 1).await?.first().map_or(0, |last| last.version),
            };
            // saved by somebody else since it was looked at; one cleared before counts as never saved, too
            if seen.is_some_and(|seen| seen != version && (seen != 0 || present.is_some())) {
                let yours = (!setting.secret).then(|| value.as_deref().unwrap_or(setting.default));
                return Err(self.changed_meanwhile(setting.name, seen, yours).await?);
            }
            if present.map(|present| &present.value) == value.as_ref() {
                versions.push((setting.name.to_owned(), version));
                continue;
            }
            is_changed = true;
            let version = if setting.name == MESSENGER_KEY {
                let key = value.as_deref().and_then(Key::from_base64);
                let key = key.ok_or_else(|| Refusal::invalid(MESSENGER_KEY, setting.kind.allowed()))?;
                self.replace_key(&mut transaction, actor, &key, None, false).await?
            } else {
                let now = self.clock.now();
                let version = transaction
                    .save_setting(setting.name, value.as_deref(), setting.secret, None, &actor.who, now)
                    .await?;
                let former = present.map(|present| present.value.as_str());
                let result = describe(setting, former, value.as_deref());
                self.audit(&mut transaction, actor, "setting:change", setting.name, result).await?;
                version
            };
            versions.push((setting.name.to_owned(), version));
        }
        if is_changed {
            transaction.commit().await?;
            self.wake(None);
        }
        Ok(versions)
    }

    /// Says all that would be wrong with these changes, before anybody saves them.
    pub async fn check_settings(&self, changes: Vec<Change>) -> Result<(), Refusal> {
        self.check(changes).await.map(|_| ())
    }

    /// Why a setting can't be changed in the database, if it can't.
    #[must_use]
    pub fn lock_reason(&self, name: &str) -> Option<String> {
        let setting = Setting::find(name)?;
        let claim = self.fixed.claim(setting.name)?;
        Some(match claim.source {
            Source::Flag => format!("is fixed by the flag {} of this node", claim.place),
            Source::Environment => format!("is fixed by the environment variable {}", claim.place),
            Source::File | Source::Default | Source::Database => match claim.place.as_str() {
                "" => "is fixed under [settings] in the configuration file".to_owned(),
                place => format!("is fixed under [settings] in the configuration file ({place})"),
            },
        })
    }

    /// Every reason why one of these can't be saved, or what is to be saved.
    async fn check(&self, changes: Vec<Change>) -> Result<Vec<Checked>, Refusal> {
        let mut checked: Vec<Checked> = Vec::with_capacity(changes.len());
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        for change in changes {
            let Some(setting) = Setting::find(&change.name) else {
                let short = quoted(&change.name);
                wrong.push((short.trim_matches('`').to_owned(), unknown_setting(short.trim_matches('`'))));
                continue;
            };
            let refuse = |why: String| (setting.name.to_owned(), why);
            if !names.insert(setting.name) {
                wrong.push(refuse("stands here twice".to_owned()));
            } else if let Some(reason) = self.lock_reason(setting.name) {
                wrong.push(refuse(reason));
            } else {
                match check_value(setting, change.value.as_deref()) {
                    Ok(value) => checked.push(Checked { setting, value, seen: change.seen }),
                    Err(why) => wrong.push(refuse(why)),
                }
            }
        }
        wrong.extend(self.check_together(&checked, &self.store.settings().await?));
        if let Some(why) = self.check_pipe(&checked).await? {
            wrong.push((MESSENGER_ENDPOINT.to_owned(), why));
        }
        if wrong.is_empty() { Ok(checked) } else { Err(Refusal::Invalid(wrong)) }
    }

    /// Why the pipe can't be had, if it can't. What is in force on a node can: it is the way back.
    async fn check_pipe(&self, checked: &[Checked]) -> Result<Option<String>, Error> {
        let change = checked.iter().find(|change| change.setting.name == MESSENGER_ENDPOINT);
        let Some(value) = change.and_then(|change| change.value.as_deref()) else { return Ok(None) };
        let Some(path) = value.strip_prefix("pipe:") else { return Ok(None) };
        let told = self.store.node_settings().await?;
        let in_force = |told: &NodeSetting| told.setting == MESSENGER_ENDPOINT && told.in_force == value;
        if told.iter().any(|(_, told)| in_force(told)) {
            return Ok(None);
        }
        let path = PathBuf::from(path);
        let checked = tokio::task::spawn_blocking(move || check_path(&path));
        let unseen =
            || Some("it can't be seen in time whether a pipe can be made there; name another place".to_owned());
        Ok(tokio::time::timeout(LOOK_PATIENCE, checked).await.map_or_else(|_| unseen(), Result::unwrap_or_default))
    }

    /// What does not go together as the settings will be: clashes in which a change takes part.
    fn check_together(&self, checked: &[Checked], stored: &[StoredSetting]) -> Vec<(String, String)> {
        let change = |name: &str| checked.iter().find(|change| change.setting.name == name);
        let kept = stored.iter().filter(|stored| change(&stored.name).is_none());
        let kept = kept.map(|stored| (stored.name.as_str(), stored.value.as_str()));
        let new = checked.iter().filter_map(|change| Some((change.setting.name, change.value.as_deref()?)));
        let (future, _) = Settings::resolve(&self.fixed, kept.chain(new));
        let beside = |clash: Clash| {
            let name = clash.names.into_iter().find(|name| change(name).is_some())?;
            Some((name.to_owned(), clash.why))
        };
        future.clashes().into_iter().filter_map(beside).collect()
    }

    /// Says who was faster, and what `yours` would have been; none for a secret.
    pub(super) async fn changed_meanwhile(
        &self,
        name: &str,
        seen: Option<i64>,
        yours: Option<&str>,
    ) -> Result<Refusal, Error> {
        let yours = yours.map_or_else(String::new, |yours| format!("; yours, `{yours}`, was not saved"));
        let last = self.store.setting_history(Some(name), 1).await?.into_iter().next();
        let seen = seen.map_or_else(String::new, |seen| format!(", you saw version {seen}"));
        Ok(Refusal::Conflict(match last {
            Some(last) => {
                let what = match last.value {
                    Some(value) => format!(" to `{value}`"),
                    None if last.cleared => " back to the default".to_owned(),
                    None => String::new(),
                };
                format!(
                    "{name} was changed{what} by {} at {} (version {}{seen}){yours}; look at it again",
                    last.changed_by, last.changed_at, last.version
                )
            }
            None => format!("{name} was never saved{seen}{yours}; look at it again"),
        }))
    }
}

/// The value in canonical form; none for empty: back to the default.
fn check_value(setting: &Setting, text: Option<&str>) -> Result<Option<String>, String> {
    let text = text.unwrap_or("").trim();
    if text.is_empty() {
        // without a key no node reaches another, and there is no default to go back to
        return if setting.name == MESSENGER_KEY {
            Err("can't be empty; generate a new key to be rid of this one".to_owned())
        } else {
            Ok(None)
        };
    }
    setting.kind.check(text).map(Some).map_err(|bad| bad.to_string())
}

/// Why no listener could be opened at this path, as far as it can be seen from here.
fn check_path(path: &Path) -> Option<String> {
    let folder = path.parent()?;
    match folder.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Some(format!("{} is no folder", folder.display())),
        Err(error) => return Some(format!("the folder {} can't be used: {error}; make it first", folder.display())),
    }
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Some(format!("no pipe can be made in the folder {}: {error}", folder.display()));
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Some(format!("{} is a folder; name a file in it", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            Some(format!("{} is a file that is no pipe, and is left alone; name another", path.display()))
        }
        // what a dead process left there is no obstacle
        Ok(_) if UnixStream::connect(path).is_ok() => {
            Some(format!("another process listens at {} already; name another", path.display()))
        }
        _ => None,
    }
}

/// What the audit says of a change.
fn describe(setting: &Setting, former: Option<&str>, value: Option<&str>) -> String {
    match (setting.secret, value) {
        (true, Some(_)) => "replaced".to_owned(),
        (true, None) => "cleared".to_owned(),
        (false, value) => {
            let shown = |value: Option<&str>| match value {
                Some(value) => format!("`{value}`"),
                None => format!("`{}` (default)", setting.default),
            };
            format!("{} → {}", shown(former), shown(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::POLL_INTERVAL;
    use crate::config::value::Kind;

    fn setting(name: &str) -> &'static Setting {
        Setting::find(name).unwrap()
    }

    #[test]
    fn empty_means_the_default_but_for_the_key() {
        assert_eq!(check_value(setting(POLL_INTERVAL), None), Ok(None));
        assert_eq!(check_value(setting(POLL_INTERVAL), Some("  ")), Ok(None));
        assert_eq!(check_value(setting(POLL_INTERVAL), Some("30")), Ok(Some("30s".to_owned())));
        assert!(check_value(setting(MESSENGER_KEY), Some("")).unwrap_err().contains("generate"));
        assert!(check_value(setting(POLL_INTERVAL), Some("soon")).unwrap_err().contains("15m"));
    }

    #[test]
    fn the_audit_never_holds_a_secret() {
        let secret = Setting { secret: true, kind: Kind::Text { max: 99 }, ..*setting(POLL_INTERVAL) };
        for text in [describe(&secret, Some("hunter2"), Some("hunter3")), describe(&secret, Some("hunter2"), None)] {
            assert!(!text.contains("hunter"), "{text}");
        }
        assert_eq!(describe(setting(POLL_INTERVAL), None, Some("30s")), "`15s` (default) → `30s`");
    }

    #[test]
    fn a_pipe_needs_a_place_that_nobody_has() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| check_path(&folder.path().join(name));
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("taken")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.path().join("stale")).unwrap());
        assert_eq!((at("new"), at("stale")), (None, None));
        for (name, words) in [
            ("none/a.sock", "make it first"),
            ("file/a.sock", "is no folder"),
            ("folder", "name a file in it"),
            ("file", "no pipe"),
            ("taken", "another process listens"),
        ] {
            let why = at(name).unwrap_or_else(|| panic!("{name} is taken for a place"));
            assert!(why.contains(words), "{name}: {why}");
        }
    }
}
