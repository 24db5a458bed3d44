//! The whole cluster is restarted node by node, under load: with the same build, and into the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use switchboard::base::shutdown::Shutdown;

use crate::cluster::balanced::site;
use crate::cluster::{each_ran_once, ran};
use crate::support::balancer::{Balancer, Follower, Visitor};
use crate::support::browser::{Browser, PASSWORD};
use crate::support::cluster::{Cluster, Times};
use crate::support::node::Node;
use crate::support::robot::{Robot, execution_id};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// Lines that each run of `count` writes.
const PER_RUN: usize = 5;

/// Where so many runs wait no more are asked for: on a busy machine they are done more slowly than they are asked for, and with a
/// hundred that wait a request is refused.
const MOST_WAITING: u64 = 30;

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_rolling_restart_of_every_node_fails_no_request_and_loses_no_run_and_no_line() {
    let mut busy = Busy::start().await;
    for number in 0..3 {
        busy.restart_web(number).await;
    }
    for number in 0..2 {
        busy.restart_service(number).await;
    }
    busy.end("restart").await;
}

/// At one time or another every kind of link is there, and a primary of either build is followed by one of the other.
#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL and builds the next build"]
async fn a_rolling_restart_into_the_next_build_fails_nothing_and_each_link_speaks_the_newest_version_both_know() {
    let next = std::env::var_os("SWITCHBOARD_NEXT_BIN").map(PathBuf::from);
    let next = next.expect("SWITCHBOARD_NEXT_BIN: the next build of the program; scripts/build-next makes it");
    let mut busy = Busy::start().await;
    let old = busy.protocol(0).await;
    let new = old + 1;
    busy.speak([old, old, old]).await;

    busy.webs[0].becomes(&next);
    busy.restart_web(0).await;
    busy.speak([old, old, old]).await;

    // beside the primary of the old build stands one of the new; then the new one leads
    busy.services[1].becomes(&next);
    busy.restart_service(1).await;
    busy.speak([old, old, old]).await;
    busy.hand_over_to(1).await;
    busy.speak([new, old, old]).await;
    busy.webs[1].becomes(&next);
    busy.restart_web(1).await;
    busy.speak([new, new, old]).await;

    // a new primary that ends is followed by the old one, and that by the new one
    busy.restart_service(1).await;
    busy.speak([old, old, old]).await;
    busy.services[0].becomes(&next);
    busy.restart_service(0).await;
    busy.speak([new, new, old]).await;

    busy.webs[2].becomes(&next);
    busy.restart_web(2).await;
    busy.speak([new, new, new]).await;
    let versions = busy.versions().await;
    assert!(versions.len() == 1 && !versions.contains(env!("CARGO_PKG_VERSION")), "{versions:?}");
    busy.end("restart into the next build").await;
}

/// Two service nodes and three web nodes behind a balancer, where pages and runs of `count` are asked for all the time, and the
/// lines of the runs followed.
struct Busy {
    cluster: Cluster,
    services: [Node; 2],
    webs: Vec<Node>,
    balancer: Balancer,
    browser: Browser,
    follower: Follower,
    visitor: Visitor,
    asker: Asker,
    began: Instant,
}

impl Busy {
    async fn start() -> Self {
        let stage = Stage::new().await;
        let mark = stage.path("count.ran").display().to_string();
        let line = format!(
            "for n in 1 2 3 4 5; do echo line $n of $SWITCHBOARD_EXECUTION; done; \
             echo $SWITCHBOARD_EXECUTION $$ $EPOCHREALTIME >> {mark}"
        );
        let jobs = Jobs::default().command_with("count", &["bash", "-c", &line], "concurrency = 4");
        let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
        cluster.administrator().await;
        let first = cluster.service(1).ready().await;
        cluster.until_primary(&first, PATIENCE).await;
        let second = cluster.service(2).ready().await;
        let (webs, balancer) = site(&cluster, &first).await;
        let url = balancer.url.clone();
        let mut browser = Browser::new(&url);
        browser.sign_in("root", PASSWORD).await;
        let follower = Follower::start(&url, cluster.token().await, "count");
        let (visitor, asker) = (Visitor::start(url.clone()), Asker::start(cluster.robot(&url).await));
        eventually("the first lines", async || so(follower.numbers().len() > 20)).await;
        let services = [first, second];
        Self { cluster, services, webs, balancer, browser, follower, visitor, asker, began: Instant::now() }
    }

    /// Restarts a web node and waits until it does its part: it follows the service, and the balancer asks it.
    async fn restart_web(&mut self, number: usize) {
        let node = &mut self.webs[number];
        stop(node).await;
        node.spawn_again();
        node.until_ready(PATIENCE).await;
        let robot = self.cluster.robot(&node.url()).await;
        eventually("its live view", async || so(robot.link().await? == "live")).await;
        self.balancer.until_asks(number + 1).await;
        self.browser.page("/status").await;
    }

    /// Restarts a service node and waits until it does its part: it stands by while the other one works.
    async fn restart_service(&mut self, number: usize) {
        let led = self.leader().await == number;
        stop(&mut self.services[number]).await;
        if led {
            // only then started again: it could be back before the other one has seen that nobody leads
            self.until_leads(1 - number).await;
        }
        let node = &mut self.services[number];
        node.spawn_again();
        node.until_ready(PATIENCE).await;
        node.stderr.line_with("this node stands by", PATIENCE).await;
        self.browser.page("/status").await;
    }

    /// Makes this service node the primary, as an administrator would.
    async fn hand_over_to(&mut self, number: usize) {
        let id = self.cluster.id(&self.services[number]).await;
        self.cluster.command(&["hand-over", &id], "").await.good();
        self.until_leads(number).await;
    }

    /// Which service node is primary.
    async fn leader(&self) -> usize {
        let holder = eventually("a primary", async || self.cluster.primary().await).await;
        let leads = self.cluster.id(&self.services[0]).await == holder;
        usize::from(!leads)
    }

    /// Waits until this service node is primary and has run something as such.
    async fn until_leads(&self, number: usize) {
        let node = &self.services[number];
        self.cluster.until_primary(node, PATIENCE).await;
        let id = self.cluster.id(node).await;
        let done = async || {
            let runs = self.cluster.executions("count").await;
            runs.iter().filter(|run| run.node.as_ref() == Some(&id) && run.outcome.is_some()).count()
        };
        let before = done().await;
        eventually(&format!("a run on {id}"), async || so(done().await > before)).await;
    }

    /// The version of the protocol that a web node speaks with the primary.
    async fn protocol(&self, web: usize) -> u64 {
        let primary = self.cluster.id(&self.services[self.leader().await]).await;
        let robot = self.cluster.robot(&self.webs[web].url()).await;
        let look = async || {
            let messenger = &robot.status().await?["messenger"];
            so(messenger["peer"] == primary.as_str())?;
            messenger["protocol"].as_u64()
        };
        eventually(&format!("a link of web node {web} to {primary}"), look).await
    }

    /// Fails unless the web nodes speak these versions of the protocol with the primary.
    async fn speak(&self, versions: [u64; 3]) {
        for (web, version) in versions.into_iter().enumerate() {
            assert_eq!(self.protocol(web).await, version, "web node {web}");
        }
    }

    /// The versions of the program that run.
    async fn versions(&self) -> BTreeSet<String> {
        let nodes = self.cluster.robot(&self.balancer.url).await.get("/api/nodes").await["nodes"].clone();
        let nodes = nodes.as_array().unwrap().iter();
        nodes.map(|node| node["version"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends it: no request failed, no run is lost or was doubled, no line is lost or was repeated.
    async fn end(self, what: &str) {
        let (cluster, follower) = (&self.cluster, &self.follower);
        let (answered, failed) = self.asker.end().await;
        let (failures, visits) = self.visitor.end().await;
        assert!(failed.is_empty(), "{} of {} requests for a run failed: {failed:?}", failed.len(), answered.len());
        assert!(failures.is_empty() && visits > 100, "{} of {visits} requests failed: {failures:?}", failures.len());

        // every answered request became exactly one run
        let unique: BTreeSet<_> = answered.iter().copied().collect();
        assert_eq!(unique.len(), answered.len(), "two answers for one execution");
        for id in &answered {
            let run = cluster.until_ended(*id, PATIENCE).await;
            assert_eq!(run.outcome.as_deref(), Some("normal"), "{run:?}");
        }
        let runs = cluster.executions("count").await;
        assert_eq!(runs.len(), answered.len(), "no run that nobody asked for");
        each_ran_once(&cluster.stage, "count");
        assert_eq!(ran(&cluster.stage, "count").len(), answered.len());
        let nodes: BTreeSet<_> = runs.iter().map(|run| run.node.clone()).collect();
        assert_eq!(nodes.len(), 2, "both service nodes worked: {nodes:?}");

        // every line came once, or its loss was told
        let came = async || {
            let mut lines = BTreeMap::<String, usize>::new();
            for text in follower.texts().into_iter().filter(|text| text.starts_with("line ")) {
                *lines.entry(text).or_default() += 1;
            }
            lines
        };
        let all = format!("all lines; {}", follower.stderr.text());
        within(PATIENCE, &all, async || so(came().await.len() == answered.len() * PER_RUN)).await;
        let twice: Vec<_> = came().await.into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}\n{}", follower.stderr.text());
        println!(
            "figure: rolling {what} of 3 web and 2 service nodes, {} s: {visits} pages and {} runs asked for, 0 failed, {} lines, \
             0 lost, 0 repeated",
            self.began.elapsed().as_secs(),
            answered.len(),
            answered.len() * PER_RUN
        );
    }
}

/// Asks a node to stop; it ends well.
async fn stop(node: &mut Node) {
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));
}

/// Asks for runs of `count` again and again.
struct Asker {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(Vec<u64>, Vec<String>)>,
}

impl Asker {
    fn start(robot: Robot) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = Arc::clone(&stop);
        let task = Shutdown::new().spawn("asker", async move {
            let (mut answered, mut failed) = (Vec::new(), Vec::new());
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let asked = match robot.try_ask(Method::GET, "/api/dispatchers/count", None).await {
                    Some((200, count)) if count["queued"].as_u64() >= Some(MOST_WAITING) => continue,
                    Some((200, _)) => robot.try_ask(Method::POST, "/api/dispatchers/count:run", None).await,
                    other => other,
                };
                match asked {
                    Some((200..=299, answer)) => answered.push(execution_id(&answer)),
                    Some((status, answer)) => failed.push(format!("{status} {answer}")),
                    None => failed.push("no answer".to_owned()),
                }
            }
            (answered, failed)
        });
        Self { stop, task }
    }

    /// The executions that were answered, and what was no good answer.
    async fn end(self) -> (Vec<u64>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
