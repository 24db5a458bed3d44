//! Dispatchers the operator declared in the configuration file.

mod command;
pub mod guard;
pub mod host;
mod http_check;
mod lines;
mod order;
mod processes;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::job::{Job, Work};
use crate::protocol::state::Origin;
use crate::service::dispatcher::{Definition, Dispatcher};
use crate::service::jobs::command::Command;
use crate::service::jobs::host::Host;
use crate::service::jobs::http_check::HttpCheck;

/// An HTTP check ends by itself at its time limit, and says so; the runner steps in only so much later.
const HTTP_MARGIN: Duration = Duration::from_secs(5);

/// A dispatcher for each job, in their order.
#[must_use]
pub fn dispatchers(jobs: &[Job], host: &Host) -> Vec<Arc<dyn Dispatcher>> {
    jobs.iter().map(|job| dispatcher(job, host)).collect()
}

fn dispatcher(job: &Job, host: &Host) -> Arc<dyn Dispatcher> {
    match &job.work {
        Work::Command { argv, directory, environment, success, warning } => Arc::new(Command {
            definition: definition(job, job.timeout),
            argv: argv.clone(),
            directory: directory.clone(),
            environment: environment.clone(),
            success: success.clone(),
            warning: warning.clone(),
            host: host.clone(),
        }),
        Work::Http { url, expect } => Arc::new(HttpCheck {
            definition: definition(job, job.timeout + HTTP_MARGIN),
            url: url.clone(),
            expect: expect.clone(),
            limit: job.timeout,
            client: OnceLock::new(),
        }),
    }
}

fn definition(job: &Job, timeout: Duration) -> Definition {
    Definition {
        name: job.name.clone(),
        title: job.title.clone(),
        description: job.description.clone(),
        origin: Origin::Job,
        schedule: job.schedule.clone(),
        disabled_by: (!job.enabled).then(|| "`enabled = false` in the configuration file".to_owned()),
        limit: job.concurrency,
        timeout: Some(timeout),
        retries: job.retries,
        retry_delay: job.retry_delay,
        run_at_start: job.run_at_start,
        catch_up: job.catch_up,
        overlap: job.overlap,
        quiet: false,
    }
}
