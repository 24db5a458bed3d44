//! Nodes: every process of ours, which one is primary, where it is reached, which key it uses, how its link is; and what can be done.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::control::Refusal;
use crate::live::cluster::Cluster;
use crate::model::node::{Node, NodeLink, Role};
use crate::web::WebState;
use crate::web::asked::{Behind, InPath, Nothing};
use crate::web::form::Acting;
use crate::web::html::{Html, visible};
use crate::web::moment::{ago, length, stamp};
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::{Problem, wants_json};
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/nodes.html")]
struct NodesPage {
    t: &'static Texts,
    frame: Frame,
    /// Nodes that something is wrong with, each by name.
    named: Vec<Phrase>,
    primary: Phrase,
    standbys: Phrase,
    asked: Option<Phrase>,
    nodes: Vec<NodeRow>,
    encryption_key: Phrase,
}

struct NodeRow {
    node: Node,
    role: &'static str,
    is_service: bool,
    mark: &'static str,
    word: &'static str,
    heartbeat: Html,
    started: Html,
    other_version: bool,
    other_key: bool,
    hears: bool,
    is_primary: bool,
    may_hand_over: bool,
    may_take_over: bool,
    may_remove: bool,
    link: Option<LinkOf>,
    /// What stands in the field of its address, and what is wrong with it.
    typed: String,
    fault: Option<Phrase>,
}

struct LinkOf {
    state: String,
    mark: &'static str,
    word: &'static str,
    peer: Option<String>,
    since: Html,
    latency: Option<String>,
    error: Option<Html>,
}

/// What somebody typed as a node's address, and what is wrong with it.
struct Typed<'a> {
    node: &'a str,
    text: &'a str,
    fault: Phrase,
}

/// GET `/nodes`
pub(crate) async fn nodes(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let frame = Frame::new(&web, &who, Place::Nodes, EN.menu_nodes).await.noting(&done);
    Ok(show(&page(&web, frame, None).await?))
}

/// POST `/nodes/{id}/{verb}`: address, hand-over (to any other), take-over (by this one) or remove.
pub(crate) async fn act(
    State(web): State<WebState>,
    InPath((id, verb)): InPath<(String, String)>,
    Acting(form): Acting,
) -> Result<Response, Problem> {
    let (actor, control) = (form.actor(), &web.control);
    let code = match verb.as_str() {
        "address" => {
            let text = form.fields.get("address");
            match control.set_address(&actor, &id, Some(text)).await {
                Ok(_) => Code::AddressSet,
                Err(Refusal::Invalid(faults)) if !wants_json(&form.headers) => {
                    let fault = faults.into_iter().map(|(_, why)| why).collect::<Vec<_>>().join("; ");
                    let typed = Typed { node: &id, text, fault: "{text}".with("text", fault) };
                    let frame = Frame::new(&web, &form.who, Place::Nodes, EN.menu_nodes).await;
                    return Ok(show_as(StatusCode::UNPROCESSABLE_ENTITY, &page(&web, frame, Some(typed)).await?));
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        "hand-over" => {
            control.hand_over(&actor, None).await?;
            Code::HandingOver
        }
        "take-over" => {
            control.hand_over(&actor, Some(&id)).await?;
            Code::HandingOver
        }
        "remove" => {
            control.remove_node(&actor, &id).await?;
            Code::NodeRemoved
        }
        _ => return Ok(Problem::not_found().into_response()),
    };
    Ok(Done::from(code).answer(&form.headers, &web.base, "/nodes"))
}

async fn page(web: &WebState, frame: Frame, typed: Option<Typed<'_>>) -> Result<NodesPage, Problem> {
    let settings = Arc::clone(&web.settings.borrow());
    let cluster = Cluster::read(&web.store, &settings, web.clock.now()).await?;
    let heard = web.messenger.status().borrow().peer.as_ref().map(|peer| peer.node.clone());
    let picture = web.hub.picture();
    // rows don't tell of it: known of the node that is heard, while somebody watches
    let stopping =
        picture.state.as_ref().filter(|state| picture.current && state.node.stopping).map(|state| &state.node.id);
    let standbys: Vec<String> = cluster.standbys().map(|node| node.id.to_string()).collect();
    let rows = cluster.nodes.iter().map(|node| {
        let typed = typed.as_ref().filter(|typed| typed.node == node.id.as_str());
        let shown = row(node, &cluster);
        let stops = stopping == Some(&node.id) && cluster.lives(node);
        let (mark, word) = if stops { ("paused", EN.node_stops) } else { (shown.mark, shown.word) };
        NodeRow {
            mark,
            word,
            may_take_over: shown.may_take_over && !stops,
            hears: heard.as_ref() == Some(&node.id),
            may_hand_over: cluster.is_primary(node) && !standbys.is_empty(),
            typed: typed
                .map_or_else(|| node.address_override.clone().unwrap_or_default(), |typed| typed.text.to_owned()),
            fault: typed.map(|typed| typed.fault.clone()),
            ..shown
        }
    });
    Ok(NodesPage {
        t: EN,
        frame,
        named: other_keys(&cluster),
        primary: primary(&cluster),
        standbys: if standbys.is_empty() {
            EN.standbys_none.into()
        } else {
            "{names}".with("names", standbys.join(", "))
        },
        asked: cluster.leadership.asked.as_ref().filter(|_| cluster.leadership.primary().is_some()).map(|(who, to)| {
            match to {
                Some(to) => EN.hand_over_to.with("who", who).with("node", to),
                None => EN.hand_over_any.with("who", who),
            }
        }),
        nodes: rows.collect(),
        encryption_key: EN.encryption_key.with("id", web.store.encryption_key_id()),
    })
}

fn row(node: &Node, cluster: &Cluster) -> NodeRow {
    let (mark, word) = liveness(node, cluster);
    let is_primary = cluster.is_primary(node);
    NodeRow {
        role: match node.role {
            Role::Web => EN.role_web,
            Role::Service => EN.role_service,
            Role::All => EN.role_all,
        },
        is_service: node.role.has_service(),
        mark,
        word,
        heartbeat: ago(node.heartbeat_at),
        started: stamp(node.started_at),
        other_version: cluster.has_other_version(node),
        other_key: cluster.has_other_key(node),
        hears: false,
        is_primary,
        may_hand_over: false,
        may_take_over: cluster.leadership.primary().is_some()
            && cluster.standbys().any(|standby| standby.id == node.id),
        may_remove: !cluster.lives(node) && !is_primary,
        link: cluster.link(node).map(link_of),
        typed: String::new(),
        fault: None,
        node: node.clone(),
    }
}

fn link_of(link: &NodeLink) -> LinkOf {
    let (mark, word) = match link.state.as_str() {
        "live" => ("normal", EN.link_live),
        "connecting" => ("queued", EN.link_connecting),
        _ => ("error", EN.link_gone),
    };
    LinkOf {
        state: link.state.clone(),
        mark,
        word,
        peer: link.peer.as_ref().map(ToString::to_string),
        since: stamp(link.since),
        latency: link.latency.filter(|_| link.state == "live").map(length),
        error: link.error.as_deref().filter(|_| link.state != "live").map(visible),
    }
}

/// Who is primary, since when, in which term; or that nobody is.
pub(crate) fn primary(cluster: &Cluster) -> Phrase {
    let leadership = &cluster.leadership;
    match leadership.primary() {
        Some(node) => {
            EN.primary_is.with("node", node).markup("since", stamp(leadership.since)).with("term", leadership.fencing)
        }
        None => EN.primary_none.into(),
    }
}

/// Whether a node lives: its sign, and the word for it.
fn liveness(node: &Node, cluster: &Cluster) -> (&'static str, &'static str) {
    if node.stopped_at.is_some() {
        ("disabled", EN.node_stopped)
    } else if cluster.lives(node) {
        ("normal", EN.node_alive)
    } else {
        ("overdue", EN.node_gone)
    }
}

/// Living nodes with another messenger key than the primary's, each by name.
pub(crate) fn other_keys(cluster: &Cluster) -> Vec<Phrase> {
    let wanted = cluster.key().unwrap_or_default();
    let named = cluster.nodes.iter().filter(|node| cluster.has_other_key(node));
    let key = |node: &Node| node.key_fingerprint.clone().unwrap_or_default();
    named.map(|node| EN.key_differs.with("node", &node.id).with("key", key(node)).with("wanted", wanted)).collect()
}
