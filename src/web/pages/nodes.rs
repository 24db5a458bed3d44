//! Nodes: every process of ours, when it last said that it lives, and which key it uses.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::base::clock::Timestamp;
use crate::config::schema::name;
use crate::model::node::Node;
use crate::web::WebState;
use crate::web::asked::{Behind, Nothing};
use crate::web::html::Html;
use crate::web::moment::{ago, stamp};
use crate::web::page::{Frame, Place, show};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/nodes.html")]
struct NodesPage {
    t: &'static Texts,
    frame: Frame,
    nodes: Vec<NodeRow>,
    disagree: Option<Phrase>,
}

struct NodeRow {
    node: Node,
    mark: &'static str,
    word: &'static str,
    heartbeat: Html,
    started: Html,
    other_version: bool,
    hears: bool,
}

/// GET `/nodes`
pub(crate) async fn nodes(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let nodes = web.store.nodes().await?;
    let patience = web.settings.borrow().duration(name::STALE_TIME);
    let now = web.clock.now();
    let heard = web.messenger.status().borrow().peer.as_ref().map(|peer| peer.node.clone());
    let keys = keys_in_use(&nodes, now, patience);
    let page = NodesPage {
        t: EN,
        frame: Frame::new(&web, &who, Place::Nodes, EN.menu_nodes).noting(&done),
        disagree: (keys.len() > 1).then(|| EN.keys_differ.with("keys", keys.join(", "))),
        nodes: nodes
            .into_iter()
            .map(|node| {
                let (mark, word) = liveness(&node, now, patience);
                NodeRow {
                    mark,
                    word,
                    heartbeat: ago(node.heartbeat_at),
                    started: stamp(node.started_at),
                    other_version: node.version != env!("CARGO_PKG_VERSION"),
                    hears: heard.as_ref() == Some(&node.id),
                    node,
                }
            })
            .collect(),
    };
    Ok(show(&page))
}

/// Whether a node lives: its sign, and the word for it.
pub(crate) fn liveness(node: &Node, now: Timestamp, patience: std::time::Duration) -> (&'static str, &'static str) {
    if node.stopped_at.is_some() {
        ("disabled", EN.node_stopped)
    } else if node.lives(now, patience) {
        ("normal", EN.node_alive)
    } else {
        ("overdue", EN.node_late)
    }
}

/// The fingerprints of the keys that living nodes use, each once.
pub(crate) fn keys_in_use(nodes: &[Node], now: Timestamp, patience: std::time::Duration) -> Vec<String> {
    let mut keys: Vec<String> = nodes
        .iter()
        .filter(|node| liveness(node, now, patience).0 == "normal")
        .filter_map(|node| node.key_fingerprint.clone())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
