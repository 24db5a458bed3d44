//! Takes stored commands unasked, so that they are carried out also while no wake-up comes through.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::config::job::EXECUTION_DISPATCH;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::dispatchers::built_in;

/// Asks for a look; answered with how many stored runs were taken since the last answer, or why it can't be looked.
pub(crate) type Ask = oneshot::Sender<Result<u64, String>>;

/// Every `Service.PollInterval`: one look into the database.
pub(crate) struct ExecutionDispatch {
    /// Where to ask for a look.
    pub registry: mpsc::Sender<Ask>,
    /// How often, at the start.
    pub interval: Duration,
}

#[async_trait]
impl Dispatcher for ExecutionDispatch {
    fn definition(&self) -> Definition {
        built_in(
            EXECUTION_DISPATCH,
            "Execution dispatch",
            "Looks for stored commands (run now, pause, resume, cancel) and hands them out, also when no wake-up arrives.",
            self.interval,
            Duration::from_secs(30),
        )
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        let (ask, answer) = oneshot::channel();
        let look = async {
            self.registry.send(ask).await.ok()?;
            answer.await.ok()
        };
        tokio::select! {
            answer = look => match answer {
                Some(Ok(0)) => Verdict::normal(None),
                Some(Ok(1)) => Verdict::normal("1 stored run handed out".to_owned()),
                Some(Ok(taken)) => Verdict::normal(format!("{taken} stored runs handed out")),
                Some(Err(why)) => Verdict::error(why),
                None => Verdict::warning("the node is stopping"),
            },
            () = run.cancelled() => Verdict::warning("cancelled before the look was over"),
        }
    }
}
