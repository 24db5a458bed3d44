//! What is promised while something is broken (`docs/reliability.md`): each fault under load, with books that must add up.
//! `scripts/soak` runs these, in a short and a long form; alone they are ignored.

mod database;
mod disk;
mod kills;
mod network;
mod proxied;
mod viewers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::books::{ANSWERED, Books, amount};
use crate::support::node::Node;
use crate::support::robot::{Robot, execution_id};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, so, within};
use crate::support::writer::Jobs;

/// Lines the writer writes in a second.
const RATE: u64 = 100;

/// All must be well so long after a fault at the latest.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long a fault lasts, from `SOAK_FAULT`, in seconds.
fn lasting(otherwise: u64) -> Duration {
    Duration::from_secs(amount("SOAK_FAULT", otherwise))
}

/// The jobs that books are kept of, and `probe`, which tells whether runs go on.
fn jobs(stage: &Stage) -> Jobs {
    Jobs::default().shell("probe", "true").mark(stage).endless_writer(stage, RATE, 0)
}

/// Waits until the link is live and a run that is asked for now ends well; gives how long that took.
async fn works(robot: &Robot) -> Duration {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let key = format!("probe-{}", PROBES.fetch_add(1, Ordering::Relaxed));
    let began = Instant::now();
    robot.until_live(RECOVERY).await;
    let (id, _) = within(RECOVERY, "a run that is taken", async || {
        let (status, answer) = robot.try_run("probe", &key).await?;
        (status == 200).then(|| execution_id(&answer))
    })
    .await;
    let ended = async || {
        let (status, run) = robot.try_ask(reqwest::Method::GET, &format!("/api/executions/{id}"), None).await?;
        so(status == 200 && run["outcome"] == "normal")
    };
    within(RECOVERY, "the end of a run", ended).await;
    began.elapsed()
}

/// Lets time pass under load, and notes what memory these take.
async fn endure(books: &mut Books, nodes: &[&Node], how_long: Duration) {
    let end = tokio::time::Instant::now() + how_long;
    while tokio::time::Instant::now() < end {
        books.weigh(nodes);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until the page's link is not live any more; gives how long that took.
async fn until_noticed(robot: &Robot) -> Duration {
    let noticed = async || so(robot.link().await.is_some_and(|state| state != "live"));
    within(PATIENCE, "a link that is not live", noticed).await.1
}

/// Nothing in it fell.
fn unharmed(nodes: &[&Node]) {
    for node in nodes {
        assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
    }
}
