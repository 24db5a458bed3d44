//! How every part of the product is, with the fix beside what ails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::{Clock as _, SystemClock, Timestamp};
use crate::live::cluster::Cluster;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::model::node::Node;
use crate::store::error::Error;
use crate::web::WebState;
use crate::web::applied::Trouble;
use crate::web::certificate::{Certificate, SOON};
use crate::web::moment::{ago, length, stamp, utc};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::texts::EN;

/// This machine's clock may be so far from the database's before it is worth a word.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// A part of the product and how it is.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) mark: &'static str,
    pub(crate) word: &'static str,
    pub(crate) state: Phrase,
    pub(crate) fix: Option<Phrase>,
}

/// All of them.
///
/// # Errors
/// If the database can't be read: who is signed in can't be told then either, and the page of that problem stands in place of this.
pub(crate) async fn parts(web: &WebState, troubles: &[Trouble]) -> Result<Vec<Part>, Problem> {
    let asked = Instant::now();
    let answer = web.store.ping().await;
    let took = asked.elapsed();
    let database = match &answer {
        Ok(()) => database(web, took).await?,
        // it answers, and its schema is an older one than that of this program
        Err(Error::Conflict(why)) => bad(EN.part_database, "{why}".with("why", why), EN.database_other_fix.into()),
        Err(error) => bad(EN.part_database, "{why}".with("why", error), EN.database_slow_fix.into()),
    };
    let link = web.messenger.status().borrow().clone();
    let now = web.clock.now();
    let settings = Arc::clone(&web.settings.borrow());
    let cluster = Cluster::read(&web.store, &settings, now).await?;
    let certificate = web.certificate.borrow().as_ref().map(|certificate| self::certificate(certificate, now));
    let parts = [
        database,
        service(&cluster),
        primary(&cluster),
        standbys(&cluster),
        messenger(&link),
        links(&cluster),
        keys(&cluster),
        versions(&cluster),
        clock(SystemClock.now(), now),
        self::settings(troubles),
        work(web),
    ];
    Ok(parts.into_iter().chain(certificate).collect())
}

async fn database(web: &WebState, took: Duration) -> Result<Part, Problem> {
    let newer = web.store.newer_program().await?;
    let state = if newer.is_some() { EN.database_newer } else { EN.database_well }
        .with("where", &web.database)
        .with("took", length(took))
        .with("size", mebibytes(web.store.database_bytes().await?))
        .with("schema", web.store.schema_version().await?);
    Ok(match newer {
        None => good(EN.part_database, state),
        Some(newer) => {
            let fix = EN.database_newer_fix.with("own", env!("CARGO_PKG_VERSION"));
            warn(EN.part_database, state.with("newer", newer), fix)
        }
    })
}

fn service(cluster: &Cluster) -> Part {
    let services = || cluster.nodes.iter().filter(|node| node.role.has_service());
    let alive: Vec<&Node> = services().filter(|node| cluster.lives(node)).collect();
    let last = services().max_by_key(|node| node.heartbeat_at);
    match (alive.as_slice(), last) {
        ([node], _) => {
            good(EN.part_service, EN.service_well.with("node", &node.id).markup("when", ago(node.heartbeat_at)))
        }
        ([_, ..], _) => {
            let names: Vec<_> = alive.iter().map(|node| node.id.as_str()).collect();
            good(EN.part_service, EN.services_well.with("nodes", names.join(", ")))
        }
        ([], Some(node)) => {
            let state = EN.service_gone.with("node", &node.id).markup("when", ago(node.heartbeat_at));
            bad(EN.part_service, state, EN.service_fix.into())
        }
        ([], None) => bad(EN.part_service, EN.service_never.into(), EN.service_fix.into()),
    }
}

fn primary(cluster: &Cluster) -> Part {
    let leadership = &cluster.leadership;
    match leadership.primary() {
        Some(node) => {
            let is = EN.primary_is.with("node", node).markup("since", stamp(leadership.since));
            good(EN.primary, is.with("term", leadership.fencing))
        }
        None => bad(EN.primary, EN.primary_none.into(), EN.primary_fix.into()),
    }
}

/// Where no other service node was ever registered, nobody expects one to stand by.
fn standbys(cluster: &Cluster) -> Part {
    let names: Vec<_> = cluster.standbys().map(|node| node.id.to_string()).collect();
    if !names.is_empty() {
        return good(EN.part_standby, EN.standbys_are.with("names", names.join(", ")));
    }
    if cluster.nodes.iter().filter(|node| node.role.has_service()).count() < 2 {
        return Part { mark: "standby", word: EN.part_alone, ..good(EN.part_standby, EN.standbys_not_meant.into()) };
    }
    warn(EN.part_standby, EN.standbys_none.into(), EN.standbys_fix.into())
}

fn keys(cluster: &Cluster) -> Part {
    match cluster.nodes.iter().filter(|node| cluster.has_other_key(node)).collect::<Vec<_>>().as_slice() {
        [] => good(EN.part_keys, EN.keys_agree.into()),
        others => {
            let names: Vec<_> = others.iter().map(|node| node.id.as_str()).collect();
            let state =
                EN.keys_differ.with("nodes", names.join(", ")).with("wanted", cluster.key().unwrap_or_default());
            bad(EN.part_keys, state, EN.keys_fix.into())
        }
    }
}

fn versions(cluster: &Cluster) -> Part {
    let others: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|node| cluster.has_other_version(node))
        .map(|node| format!("{} ({})", node.id, node.version))
        .collect();
    let wanted = cluster.version().unwrap_or_default();
    if others.is_empty() {
        return good(EN.part_versions, EN.versions_agree.with("version", wanted));
    }
    let state = EN.versions_differ.with("nodes", others.join(", ")).with("wanted", wanted);
    warn(EN.part_versions, state, EN.versions_fix.into())
}

/// `system`: by this machine's clock; `shared`: by the database's, which all nodes tell.
fn clock(system: Timestamp, shared: Timestamp) -> Part {
    let (apart, text) =
        if system > shared { (system.since(shared), EN.clock_ahead) } else { (shared.since(system), EN.clock_behind) };
    if apart < CLOCK_TOLERANCE {
        return good(EN.part_clock, EN.clock_well.into());
    }
    warn(EN.part_clock, text.with("apart", length(apart)), EN.clock_fix.into())
}

fn certificate(of: &Certificate, now: Timestamp) -> Part {
    let end = |text: &'static str, end: Timestamp| text.with("end", utc(end));
    match (&of.fault, of.ends_at) {
        (Some(fault), _) => {
            bad(EN.part_certificate, EN.certificate_kept.with("fault", fault), EN.certificate_fix.into())
        }
        (None, None) => good(EN.part_certificate, EN.certificate_unread.into()),
        (None, Some(at)) if at <= now => {
            bad(EN.part_certificate, end(EN.certificate_ended, at), EN.certificate_fix.into())
        }
        (None, Some(at)) if at.minus(SOON) <= now => {
            warn(EN.part_certificate, end(EN.certificate_soon, at), EN.certificate_fix.into())
        }
        (None, Some(at)) => good(EN.part_certificate, end(EN.certificate_well, at)),
    }
}

fn settings(troubles: &[Trouble]) -> Part {
    if troubles.is_empty() {
        return good(EN.part_settings, EN.settings_in_force.into());
    }
    let names: BTreeSet<_> = troubles.iter().map(|trouble| trouble.name).collect();
    let names: Vec<_> = names.into_iter().collect();
    bad(EN.part_settings, EN.settings_not_in_force.with("names", names.join(", ")), EN.settings_fix.into())
}

fn messenger(link: &LinkStatus) -> Part {
    match link.state {
        LinkState::Live => {
            let peer = link.peer.as_ref();
            let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let well = EN
                .messenger_well
                .with("node", known(peer.map(|peer| peer.node.to_string())))
                .with("where", &link.endpoint)
                .with("version", known(peer.map(|peer| peer.version.to_string())))
                .with("took", known(link.latency.map(length)));
            good(EN.part_messenger, well)
        }
        LinkState::Connecting | LinkState::Down => {
            let cause = link.error.as_deref().unwrap_or(EN.link_no_cause);
            let fix = if is_of_keys(cause) { EN.messenger_key_fix } else { EN.messenger_fix };
            bad(EN.part_messenger, "{cause}".with("cause", cause), fix.with("where", &link.endpoint))
        }
    }
}

/// The links of all living web nodes, as each has written down: this node may be the only one that is well.
fn links(cluster: &Cluster) -> Part {
    let links = cluster.nodes.iter().filter_map(|node| Some((node, cluster.link(node)?)));
    let (live, away): (Vec<_>, Vec<_>) = links.partition(|(_, link)| link.state == LinkState::Live.as_str());
    if away.is_empty() {
        if live.is_empty() {
            return unknown(EN.part_links, EN.links_unknown.into());
        }
        let names: Vec<_> = live.iter().map(|(node, _)| node.id.as_str()).collect();
        return good(EN.part_links, EN.links_well.count(live.len() as u64).with("nodes", names.join(", ")));
    }
    let causes: Vec<_> = away
        .iter()
        .map(|(node, link)| format!("{} ({})", node.id, link.error.as_deref().unwrap_or(EN.link_no_cause)))
        .collect();
    let all_of_keys = away.iter().all(|(_, link)| link.error.as_deref().is_some_and(is_of_keys));
    let fix = if all_of_keys { EN.messenger_key_fix } else { EN.links_fix };
    bad(EN.part_links, EN.links_away.with("nodes", causes.join("; ")), fix.into())
}

fn is_of_keys(cause: &str) -> bool {
    cause.contains("key mismatch")
}

fn work(web: &WebState) -> Part {
    let picture = web.hub.picture();
    let Some(state) = picture.state else {
        return unknown(EN.part_work, EN.work_unknown.into());
    };
    let troubled: Vec<&str> = state
        .dispatchers
        .values()
        .filter(|d| matches!(d.activity.as_str(), "failing" | "overdue"))
        .map(|d| d.name.as_str())
        .collect();
    if troubled.is_empty() {
        good(EN.part_work, EN.work_well.count(state.dispatchers.len() as u64))
    } else {
        let state = EN.work_troubled.with("names", troubled.join(", "));
        warn(EN.part_work, state, EN.work_fix.into())
    }
}

fn good(name: &'static str, state: Phrase) -> Part {
    Part { name, mark: "normal", word: EN.part_well, state, fix: None }
}

fn unknown(name: &'static str, state: Phrase) -> Part {
    Part { mark: "standby", word: EN.part_unknown, ..good(name, state) }
}

fn bad(name: &'static str, state: Phrase, fix: Phrase) -> Part {
    Part { name, mark: "error", word: EN.part_ill, state, fix: Some(fix) }
}

fn warn(name: &'static str, state: Phrase, fix: Phrase) -> Part {
    Part { mark: "warning", word: EN.part_look, ..bad(name, state, fix) }
}

/// A size with one decimal: `1.3 MiB`.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_to_be_so_in_either_direction() {
        let now = Timestamp::from_micros(1_795_223_419_000_000);
        let off = |by: Duration| (clock(now.plus(by), now), clock(now, now.plus(by)));
        let (ahead, behind) = off(Duration::from_mins(10));
        assert!(ahead.state.plain().contains("ahead") && behind.state.plain().contains("behind"));
        assert!(ahead.fix.is_some() && behind.fix.is_some());
        let (ahead, behind) = off(Duration::from_millis(1_900));
        assert!(ahead.fix.is_none() && behind.fix.is_none());
    }
}
