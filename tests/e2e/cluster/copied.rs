//! A copied data directory makes two processes one node: only one of them works.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::jobs;
use crate::support::cluster::{Cluster, Times};
use crate::support::node::Node;
use crate::support::stage::Stage;
use crate::support::wait::PATIENCE;

/// A killed node is back after this, however long its last heartbeat counts.
const AT_ONCE: Duration = Duration::from_secs(7);

async fn cluster(times: Times) -> Cluster {
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    Cluster::new(stage, times, jobs).await
}

/// Copies the files of a data directory; a socket can't be copied.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|file| file.file_type().unwrap().is_file())
    {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Waits until it has ended as one that could not start or go on; all of these words stand in its log.
async fn gave_up(node: &mut Node, words: &[&str]) {
    assert_eq!(node.end(PATIENCE).await.code(), Some(1), "{}", node.stderr.text());
    for words in words {
        node.stderr.line_with(words, PATIENCE).await;
    }
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_copied_service_node_is_refused_and_one_that_was_followed_by_its_copy_takes_nothing_back() {
    let cluster = cluster(Times::SHORT).await;
    let mut first = cluster.service(1).ready().await;
    cluster.until_primary(&first, PATIENCE).await;
    let (id, term) = (cluster.id(&first).await, cluster.term().await);
    let [own, copied] = ["service-1", "service-2"].map(|name| cluster.stage.path(name));
    copy(&own, &copied);
    let mut second = cluster.service(2).spawn();
    let file = copied.join("node-service.id");
    let (who, pid) = (format!("another process is {id} as well"), format!("process {} on", first.pid()));
    gave_up(&mut second, &[&who, &pid, &format!("Remove {}", file.display()), "a new id is made"]).await;
    assert_eq!((cluster.primary().await, cluster.term().await), (Some(id.clone()), term), "nothing was taken from it");

    first.signal(Signal::STOP);
    let second = cluster.service(2).ready().await;
    cluster.until_primary(&second, PATIENCE).await;
    let term = cluster.term().await;
    first.signal(Signal::CONT);
    let now = format!("process {} on", second.pid());
    gave_up(&mut first, &[&now, &format!("is {id} now"), "this process ends"]).await;
    first.spawn_again();
    gave_up(&mut first, &[&who, &now]).await;
    assert_eq!((cluster.id(&second).await, cluster.term().await), (id.clone(), term), "nothing was taken back");

    // what it was told to do helps
    std::fs::remove_file(own.join("node-service.id")).unwrap();
    first.spawn_again();
    first.until_ready(PATIENCE).await;
    first.stderr.line_with("this node stands by", PATIENCE).await;
    assert_ne!(cluster.id(&first).await, id);
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_copied_web_node_is_refused_while_killed_nodes_start_again_at_once() {
    let cluster = cluster(Times::DEFAULT).await;
    let mut service = cluster.service(1).ready().await;
    let mut web = cluster.web(1).ready().await;
    let id = cluster.id(&web).await;
    copy(&cluster.stage.path("web-1"), &cluster.stage.path("web-2"));
    let mut second = cluster.web(2).spawn();
    gave_up(&mut second, &[&format!("another process is {id} as well"), "node-web.id and start again"]).await;
    for node in [&mut service, &mut web] {
        node.restart();
        node.until_ready(AT_ONCE).await;
    }
    assert_eq!(cluster.id(&web).await, id);

    // one that was taken for dead and removed is there again with its next beat
    cluster.remove(&id).await;
    assert_eq!(cluster.id(&web).await, id);

    // nobody lives any more that a copy could be
    web.kill9();
    let mut second = cluster.web(2).spawn();
    second.stderr.line_with("waiting for at most", PATIENCE).await;
    second.until_ready(Times::DEFAULT.stale + PATIENCE).await;
    assert_eq!(cluster.id(&second).await, id);
}
