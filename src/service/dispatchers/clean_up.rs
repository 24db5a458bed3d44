//! Deletes what is older, or more, than the settings let stay.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::base::chain::chain;
use crate::base::clock::Timestamp;
use crate::config::job::{CLEAN_UP, EXECUTION_DISPATCH, FAILOVER, HEARTBEAT};
use crate::config::schema::name;
use crate::config::settings::Settings;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::dispatchers::built_in;
use crate::store::error::Error;
use crate::store::{Store, Transaction};

/// How often.
const INTERVAL: Duration = Duration::from_hours(1);

/// Every hour: executions, kept lines, sessions, audit entries and diagnostics.
pub(crate) struct CleanUp {
    /// From where.
    pub store: Store,
    /// What stays.
    pub settings: watch::Receiver<Arc<Settings>>,
}

/// What is cleaned up, in this order, each in a transaction of its own: nobody waits for all of it.
const KINDS: [Kind; 5] = [Kind::Executions, Kind::Lines, Kind::Sessions, Kind::Audit, Kind::Diagnostics];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Executions,
    Lines,
    Sessions,
    Audit,
    Diagnostics,
}

impl Kind {
    fn counted(self, count: u64) -> String {
        let (one, many) = match self {
            Self::Executions => ("execution", "executions"),
            Self::Lines => ("log line", "log lines"),
            Self::Sessions => ("session", "sessions"),
            Self::Audit => ("audit entry", "audit entries"),
            Self::Diagnostics => ("diagnostic", "diagnostics"),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }

    async fn purge(self, transaction: &mut Transaction, settings: &Settings, now: Timestamp) -> Result<u64, Error> {
        let count = |name| u32::try_from(settings.integer(name)).unwrap_or(u32::MAX);
        match self {
            Self::Executions => {
                let keep = count(name::EXECUTION_COUNT);
                // thousands a day of which none is worth keeping, nor telling that it went
                for often in [HEARTBEAT, FAILOVER, EXECUTION_DISPATCH] {
                    transaction.purge_uneventful(often, keep).await?;
                }
                transaction.purge_executions(settings.duration(name::EXECUTION_AGE), keep, now).await
            }
            Self::Lines => {
                let bytes = settings.size(name::LOG_SIZE);
                transaction.purge_rows(settings.duration(name::LOG_AGE), bytes, now).await
            }
            Self::Sessions => {
                let (idle, age) = (settings.duration(name::SESSION_IDLE), settings.duration(name::SESSION_AGE));
                transaction.purge_sessions(idle, age, now).await
            }
            Self::Audit => transaction.purge_audit(settings.duration(name::AUDIT_AGE), now).await,
            Self::Diagnostics => transaction.purge_diagnostics(count(name::DIAGNOSTICS_KEPT)).await,
        }
    }
}

impl CleanUp {
    async fn clean(&self, kind: Kind, run: &Run) -> Result<u64, Error> {
        let settings = Arc::clone(&self.settings.borrow());
        let mut transaction = self.store.begin().await?;
        let went = kind.purge(&mut transaction, &settings, run.clock.now()).await?;
        transaction.commit().await?;
        Ok(went)
    }
}

/// What is said about it: nothing, if nothing went.
fn verdict(went: &[(Kind, u64)], failed: &[(Kind, String)]) -> Verdict {
    let parts: Vec<_> = went.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| kind.counted(*count)).collect();
    let deleted = (!parts.is_empty()).then(|| format!("deleted {}", parts.join(", ")));
    match failed.first() {
        Some((kind, why)) => {
            let deleted = deleted.map(|text| format!("; {text}")).unwrap_or_default();
            Verdict::error(format!("{} could not be deleted: {why}{deleted}", kind.counted(2).trim_start_matches("2 ")))
        }
        None => Verdict::normal(deleted),
    }
}

#[async_trait]
impl Dispatcher for CleanUp {
    fn definition(&self) -> Definition {
        built_in(
            CLEAN_UP,
            "Clean-up",
            "Deletes executions, kept log lines, sessions, audit entries and diagnostics that are older or more than the \
             Retention settings let stay.",
            INTERVAL,
            Duration::from_mins(10),
        )
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        let (mut went, mut failed) = (Vec::new(), Vec::new());
        for (done, kind) in (0..).zip(KINDS) {
            if run.cancel.is_cancelled() {
                break;
            }
            run.progress(done, KINDS.len() as u64, Some(kind.counted(2).trim_start_matches("2 ").to_owned()));
            match self.clean(kind, run).await {
                Ok(count) => went.push((kind, count)),
                Err(error) => failed.push((kind, chain(&error))),
            }
        }
        verdict(&went, &failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::execution::Outcome;

    #[test]
    fn it_says_what_went_and_what_did_not() {
        assert_eq!(verdict(&[(Kind::Executions, 0)], &[]), Verdict::normal(None));
        let went = [(Kind::Executions, 1), (Kind::Lines, 0), (Kind::Audit, 2)];
        assert_eq!(verdict(&went, &[]).message.as_deref(), Some("deleted 1 execution, 2 audit entries"));
        let verdict = verdict(&went[..1], &[(Kind::Lines, "disk full".into())]);
        assert_eq!(verdict.outcome, Outcome::Error);
        assert_eq!(verdict.message.as_deref(), Some("log lines could not be deleted: disk full; deleted 1 execution"));
    }
}
