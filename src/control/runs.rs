//! Run, pause, resume, cancel.

use crate::base::id::ExecutionId;
use crate::control::{Actor, Asked, Control, Refusal, quoted};
use crate::model::execution::{Cause, Execution, Phase};
use crate::store::dispatchers::StoredDispatcher;
use crate::store::executions::{Cancelled, ExecutionFilter, NewExecution};

/// The longest `Idempotency-Key`, in characters.
const LONGEST_KEY: usize = 255;
/// How many waiting and running executions are cancelled in one go at most, of each phase.
const AT_ONCE: u32 = 500;

impl Control {
    /// Asks for a run now. `after` is the newest execution the asker saw (0: none); `key` the asker's idempotency key.
    ///
    /// A paused dispatcher is not refused: pausing keeps it from running by itself, and an administrator who says "now" means it.
    pub async fn run(
        &self,
        actor: &Actor,
        dispatcher: &str,
        cause: Cause,
        after: Option<i64>,
        key: Option<String>,
    ) -> Result<Asked, Refusal> {
        actor.must_act()?;
        if key.as_ref().is_some_and(|key| !is_key(key)) {
            let why = format!("1 to {LONGEST_KEY} visible ASCII characters are allowed");
            return Err(Refusal::invalid("Idempotency-Key", why));
        }
        let known = self.dispatcher(dispatcher).await?;
        if let Some(by) = &known.disabled_by {
            return Err(Refusal::Conflict(format!("{dispatcher} is disabled by {by}; it can't be run")));
        }
        let mut transaction = self.store.begin().await?;
        let new = NewExecution {
            dispatcher: known.name.clone(),
            cause,
            requested_by: Some(actor.who.clone()),
            queued_at: self.clock.now(),
            after,
            idempotency_key: key,
            retry_of: None,
        };
        let requested = transaction.request_execution(&new).await?;
        let id = requested.execution.id;
        // a repeated click or request is one action of one person; somebody else's is written down
        if requested.new {
            let result = format!("execution {id} queued");
            self.audit(&mut transaction, actor, "dispatcher:run", dispatcher, result).await?;
        } else if requested.execution.requested_by.as_ref() != Some(&actor.who) {
            let result = format!("execution {id} had been asked for already");
            self.audit(&mut transaction, actor, "dispatcher:run", dispatcher, result).await?;
        }
        transaction.commit().await?;
        let stopping = (self.stopping)();
        let told = !stopping && self.wake(Some(dispatcher));
        Ok(Asked { execution: requested.execution, new: requested.new, told, stopping })
    }

    /// Pauses a dispatcher (runs that go on are not ended). One paused already stays paused by whom it was.
    /// Gives whether the service was told at once; if not it looks by itself within the poll interval.
    pub async fn pause(&self, actor: &Actor, dispatcher: &str) -> Result<bool, Refusal> {
        actor.must_act()?;
        let known = self.dispatcher(dispatcher).await?;
        let mut transaction = self.store.begin().await?;
        if !transaction.pause_dispatcher(dispatcher, &actor.who, self.clock.now()).await? {
            return Err(no_dispatcher(dispatcher));
        }
        let result = match known.paused {
            None => "paused".to_owned(),
            Some((by, since)) => format!("was paused already by {by} since {since}"),
        };
        self.audit(&mut transaction, actor, "dispatcher:pause", dispatcher, result).await?;
        transaction.commit().await?;
        Ok(self.wake(Some(dispatcher)))
    }

    /// Lets it go on; one that is not paused stays as it is. Gives whether the service was told at once.
    pub async fn resume(&self, actor: &Actor, dispatcher: &str) -> Result<bool, Refusal> {
        actor.must_act()?;
        let known = self.dispatcher(dispatcher).await?;
        let mut transaction = self.store.begin().await?;
        if !transaction.resume_dispatcher(dispatcher).await? {
            return Err(no_dispatcher(dispatcher));
        }
        let result = match known.paused {
            None => "was not paused".to_owned(),
            Some((by, since)) => format!("resumed; was paused by {by} since {since}"),
        };
        self.audit(&mut transaction, actor, "dispatcher:resume", dispatcher, result).await?;
        transaction.commit().await?;
        Ok(self.wake(Some(dispatcher)))
    }

    /// Cancels one run, waiting or going on.
    pub async fn cancel(&self, actor: &Actor, execution: ExecutionId) -> Result<Execution, Refusal> {
        actor.must_act()?;
        let mut transaction = self.store.begin().await?;
        let cancelled = transaction.cancel_execution(execution, &actor.who, self.clock.now()).await?;
        let (execution, result) = match cancelled {
            None => return Err(Refusal::NotFound(format!("there is no execution {execution}"))),
            Some(Cancelled::TooLate(ended)) => return Err(Refusal::Conflict(too_late(&ended))),
            Some(Cancelled::Ended(ended)) => (ended, "had not begun; cancelled"),
            Some(Cancelled::Asked(running)) => (running, "asked to end"),
        };
        let result = format!("execution {} of {}: {result}", execution.id, execution.dispatcher);
        self.audit(&mut transaction, actor, "execution:cancel", &execution.id.to_string(), result).await?;
        transaction.commit().await?;
        self.wake(Some(&execution.dispatcher));
        Ok(execution)
    }

    /// Cancels every run of a dispatcher. Gives those it reached; none if none waits or goes on.
    pub async fn cancel_all(&self, actor: &Actor, dispatcher: &str) -> Result<Vec<Execution>, Refusal> {
        actor.must_act()?;
        self.dispatcher(dispatcher).await?;
        let mut transaction = self.store.begin().await?;
        let mut reached = Vec::new();
        for phase in [Phase::Queued, Phase::Running] {
            let filter = ExecutionFilter {
                dispatcher: Some(dispatcher.to_owned()),
                phase: Some(phase),
                limit: AT_ONCE,
                ..ExecutionFilter::default()
            };
            for execution in self.store.executions(&filter).await? {
                match transaction.cancel_execution(execution.id, &actor.who, self.clock.now()).await? {
                    Some(Cancelled::Ended(execution) | Cancelled::Asked(execution)) => reached.push(execution),
                    Some(Cancelled::TooLate(_)) | None => {}
                }
            }
        }
        if reached.is_empty() {
            return Ok(reached);
        }
        let ids: Vec<_> = reached.iter().take(20).map(|execution| execution.id.to_string()).collect();
        let further = if reached.len() > ids.len() { " and others" } else { "" };
        let result = format!("{} cancelled: execution {}{further}", reached.len(), ids.join(", "));
        self.audit(&mut transaction, actor, "dispatcher:cancel", dispatcher, result).await?;
        transaction.commit().await?;
        self.wake(Some(dispatcher));
        Ok(reached)
    }

    async fn dispatcher(&self, name: &str) -> Result<StoredDispatcher, Refusal> {
        let known = self.store.dispatcher(name).await?;
        known.filter(|known| known.present).ok_or_else(|| no_dispatcher(name))
    }
}

fn no_dispatcher(name: &str) -> Refusal {
    Refusal::NotFound(format!("there is no dispatcher {}", quoted(name)))
}

fn too_late(ended: &Execution) -> String {
    let how = ended.outcome.map_or("ended", |outcome| outcome.as_str());
    match ended.finished_at {
        Some(at) => format!("execution {} had ended already: {how} at {at}", ended.id),
        None => format!("execution {} had ended already: {how}", ended.id),
    }
}

fn is_key(key: &str) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_and_short() {
        for (key, fits) in [("", false), ("a b", false), ("ä", false), ("a\n", false), ("8f1c-22", true)] {
            assert_eq!(is_key(key), fits, "{key:?}");
        }
        assert!(is_key(&"x".repeat(255)) && !is_key(&"x".repeat(256)));
    }
}
