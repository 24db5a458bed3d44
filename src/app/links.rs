//! Writes down how this web node's way to the service node is, so that the page of nodes shows everybody's.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::base::chain::chain;
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::messenger::client::{Client, LinkStatus};
use crate::model::node::NodeLink;
use crate::store::Store;
use crate::store::error::Error;

/// A latency that was measured again is written so far apart at least; what could not be written is tried again after as long.
const APART: Duration = Duration::from_secs(10);

/// Writes it now, at once whenever it is another, and now and then how long an answer takes.
pub fn keep_telling(store: &Store, node: &NodeId, client: &Client, shutdown: &Shutdown) {
    let (store, node, stopping, mut status) = (store.clone(), node.clone(), shutdown.clone(), client.status());
    shutdown.spawn("link told", async move {
        let mut written: Option<NodeLink> = None;
        let mut due = Instant::now();
        loop {
            let now = told(&status.borrow_and_update());
            let but_latency = |known: &NodeLink| NodeLink { latency: now.latency, ..known.clone() };
            let is_news = written.as_ref().map(but_latency).as_ref() != Some(&now);
            if is_news || (Instant::now() >= due && written.as_ref() != Some(&now)) {
                match write(&store, &node, &now).await {
                    Ok(()) => written = Some(now.clone()),
                    // pages say by themselves that the database is away
                    Err(error) => tracing::debug!("how the link is was not written: {}", chain(&error)),
                }
                due = Instant::now() + APART;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = sleep_until(due), if written.as_ref() != Some(&now) => {}
                () = stopping.stopping() => return,
            }
        }
    });
}

/// What is told of it: not the attempts, which change all the time while it is away.
fn told(link: &LinkStatus) -> NodeLink {
    NodeLink {
        state: link.state.as_str().to_owned(),
        peer: link.peer.as_ref().map(|peer| peer.node.clone()),
        endpoint: link.endpoint.clone(),
        since: link.since,
        error: link.error.clone(),
        latency: link.latency,
    }
}

async fn write(store: &Store, node: &NodeId, link: &NodeLink) -> Result<(), Error> {
    let mut transaction = store.begin().await?;
    transaction.tell_node_link(node, link).await?;
    transaction.commit().await
}
