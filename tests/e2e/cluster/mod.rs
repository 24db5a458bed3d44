//! Several service and web nodes as real processes on one PostgreSQL database: what becomes of work, pages and lines when any of
//! them dies, freezes, stops, or is replaced.

mod address;
mod balanced;
mod clocks;
mod copied;
mod failover;
mod lines;
mod live;
mod rolling;
mod trouble;

use std::time::Duration;

use crate::support::cluster::{Cluster, Times};
use crate::support::node::{Node, lives};
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// Beside what the product promises, what a busy test machine may take.
const SLACK: Duration = Duration::from_millis(800);

/// Says what was measured.
fn figure(what: &str, took: Duration) {
    println!("figure: {what}: {} ms", took.as_millis());
}

/// The jobs of most stories: `quick` ends at once, `tick` runs every second, `strict` and `lax` go on until they are let go; `lax`
/// may overlap with itself on another node. Each run leaves a line in `NAME.ran`; the held ones another in `NAME.ended` when they
/// are told to end, for which they take their time.
fn jobs(stage: &Stage) -> Jobs {
    let file = |name: &str| stage.path(name).display().to_string();
    let write = |name: &str| format!("echo $SWITCHBOARD_EXECUTION $$ $EPOCHREALTIME >> {}", file(name));
    let mark = |name: &str| write(&format!("{name}.ran"));
    let held = |name: &str| {
        // a pause without a process, which would be told to end as well
        let told_to_end = format!("read -t 0.5 -u $never; {}; exit 1", write(&format!("{name}.ended")));
        let lets = file(&format!("{name}.let"));
        format!(
            "exec {{never}}<> <(:); trap '{told_to_end}' TERM; {}; while [ ! -e {lets} ]; do sleep 0.05; done",
            mark(name)
        )
    };
    Jobs::default()
        .shell("quick", &mark("quick"))
        .command_with("tick", &["bash", "-c", &mark("tick")], "schedule = \"every 1s\"")
        .command_with("strict", &["bash", "-c", &held("strict")], "")
        .command_with("lax", &["bash", "-c", &held("lax")], "overlap = \"allowed\"")
}

/// A run as its own process told of it.
#[derive(Clone, Debug)]
struct Ran {
    execution: u64,
    pid: u32,
    /// Seconds since 1970.
    at: f64,
}

/// What the processes of a job told when they began.
fn ran(stage: &Stage, job: &str) -> Vec<Ran> {
    told(stage, &format!("{job}.ran"))
}

fn told(stage: &Stage, file: &str) -> Vec<Ran> {
    let text = std::fs::read_to_string(stage.path(file)).unwrap_or_default();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let ran = |words: Vec<&str>| Ran {
        execution: words[0].parse().unwrap(),
        pid: words[1].parse().unwrap(),
        at: words[2].parse().unwrap(),
    };
    words.map(ran).collect()
}

/// Waits until the process of this execution runs; gives it.
async fn process_of(stage: &Stage, job: &str, execution: u64) -> u32 {
    let look = async || ran(stage, job).into_iter().find(|ran| ran.execution == execution);
    eventually(&format!("the process of execution {execution}"), look).await.pid
}

/// Lets a held job end.
fn let_go(stage: &Stage, job: &str) {
    stage.write(&format!("{job}.let"), "");
}

/// Fails if an execution was really run twice.
fn each_ran_once(stage: &Stage, job: &str) {
    let mut executions: Vec<u64> = ran(stage, job).iter().map(|ran| ran.execution).collect();
    let all = executions.len();
    executions.sort_unstable();
    executions.dedup();
    assert_eq!(executions.len(), all, "{job}: an execution ran twice");
}

/// Two service nodes, of which the first is primary, and a web node.
struct Pair {
    cluster: Cluster,
    first: Node,
    second: Node,
    web: Node,
    robot: Robot,
}

impl Pair {
    async fn start(stage: Stage, times: Times) -> Self {
        let jobs = jobs(&stage);
        let cluster = Cluster::new(stage, times, jobs).await;
        let first = cluster.service(1).ready().await;
        Self::with(cluster, first).await
    }

    /// With this first node.
    async fn with(cluster: Cluster, first: Node) -> Self {
        cluster.until_primary(&first, PATIENCE).await;
        let second = cluster.service(2).ready().await;
        let web = cluster.web(1).ready().await;
        let robot = cluster.robot(&web.url()).await;
        cluster.until_follows(&robot, &first, PATIENCE).await;
        Self { cluster, first, second, web, robot }
    }

    /// Nothing ran twice, nothing overlapped that must not.
    async fn nothing_twice(&self) {
        for job in ["quick", "tick", "strict"] {
            self.cluster.one_at_a_time(job).await;
        }
        for job in ["quick", "tick", "strict", "lax"] {
            each_ran_once(&self.cluster.stage, job);
        }
    }
}

/// Waits until a web node says that its link is in this state and leads to such an endpoint.
async fn link_at(robot: &Robot, state: &str, part: &str) {
    eventually(&format!("a link that is {state} at {part}"), async || {
        let messenger = robot.status().await?["messenger"].clone();
        so(messenger["state"] == state && messenger["endpoint"].as_str()?.contains(part))
    })
    .await;
}

/// Waits until a process is gone.
async fn ended(pid: u32) {
    eventually(&format!("the end of process {pid}"), async || so(!lives(pid))).await;
}
