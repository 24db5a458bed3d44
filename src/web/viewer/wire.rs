//! The messages between a page and its web node, both ways: see `docs/live-protocol.md`.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::{Epoch, NodeId};
use crate::base::ring::Counts;
use crate::live::life::Restart;
use crate::live::mirror::Summary;
use crate::messenger::client::LinkStatus;
use crate::model::log_entry::LogGap;

/// The version of these messages.
pub(crate) const VERSION: u32 = 1;

/// Pages made by another build offer to be loaded again.
pub(crate) const BUILD: &str = env!("CARGO_PKG_VERSION");

/// So many lines may be under way without the page having acknowledged them.
pub(crate) const WINDOW: usize = 2000;

/// The longest silence of the web node, in milliseconds.
pub(crate) const PING_MS: u64 = 2000;

/// What a page says.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Said {
    Hello {
        v: u32,
    },
    Sub(Subscription),
    Unsub {
        topic: Topic,
    },
    Ack {
        seq: u64,
        #[serde(default)]
        epoch: Option<Epoch>,
    },
    Ping {},
}

/// What a page can follow.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topic {
    Status,
    Log,
}

/// What a page wants to follow, and which lines.
#[derive(Debug, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) topic: Topic,
    /// Of the status only this dispatcher, with its history.
    #[serde(default)]
    pub(crate) dispatcher: Option<String>,
    /// Said back when it is followed.
    #[serde(default)]
    pub(crate) id: Option<u64>,
    #[serde(default)]
    pub(crate) since: Option<String>,
    #[serde(default, flatten)]
    pub(crate) wish: Wish,
}

/// Which lines are wanted, as a page or an address says it, unchecked.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Wish {
    pub(crate) level: Option<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) q: Option<String>,
    pub(crate) inverse: bool,
    pub(crate) execution: Option<i64>,
}

/// The end of a socket, in a word for the script and in words for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bye {
    pub(crate) code: &'static str,
    pub(crate) text: String,
    /// The WebSocket's own number for it.
    pub(crate) close: u16,
}

impl Bye {
    pub(crate) fn new(code: &'static str, close: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), close }
    }

    pub(crate) fn message(&self) -> Utf8Bytes {
        json(&serde_json::json!({ "t": "bye", "code": self.code, "text": self.text }))
    }
}

/// First answer on a socket.
pub(crate) fn hello(now: Timestamp) -> Utf8Bytes {
    json(&serde_json::json!({
        "t": "hello", "v": VERSION, "build": BUILD, "now": now.as_millis(), "window": WINDOW, "ping": PING_MS,
    }))
}

/// "I am here, and this is my time."
pub(crate) fn ping(now: Timestamp) -> Utf8Bytes {
    format!(r#"{{"t":"ping","now":{}}}"#, now.as_millis()).into()
}

/// Everything from here on is what was asked for under this number.
pub(crate) fn following(id: u64) -> Utf8Bytes {
    format!(r#"{{"t":"following","topic":"log","id":{id}}}"#).into()
}

/// A wish that can't be fulfilled, with the number it was asked under; what was followed before goes on.
pub(crate) fn bad(id: Option<u64>, field: &str, text: &str) -> Utf8Bytes {
    let mut message = serde_json::json!({ "t": "bad", "field": field, "text": text });
    if let Some(id) = id {
        message["id"] = id.into();
    }
    json(&message)
}

/// Lines that can't be had.
pub(crate) fn gap(epoch: Epoch, gap: &LogGap) -> Utf8Bytes {
    json(&serde_json::json!({ "t": "gap", "epoch": epoch, "from": gap.from, "to": gap.to, "by_level": gap.by_level }))
}

/// Another life of a service node begins; what nobody knows is null. `primary`: its node was heard, as the primary is.
pub(crate) fn restart(epoch: Epoch, restart: &Restart) -> Utf8Bytes {
    let to = restart.to.as_ref();
    json(&serde_json::json!({
        "t": "restart",
        "epoch": epoch,
        "before": restart.before,
        "node": restart.node,
        "primary": to.is_some(),
        "from": restart.from,
        "to": to.map(|to| &to.version),
        "at": to.map(|to| to.started_at.as_millis()),
    }))
}

/// Lines, each already encoded; of which node, unless there are none or it is not known.
pub(crate) fn log<'a>(
    node: Option<&NodeId>,
    epoch: Epoch,
    next: u64,
    rows: impl ExactSizeIterator<Item = &'a Bytes> + Clone,
    hidden: &Counts,
) -> Utf8Bytes {
    let size = rows.clone().map(|row| row.len() + 1).sum::<usize>() + 128;
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(br#"{"t":"log","#);
    if let Some(node) = node {
        out.extend_from_slice(format!(r#""node":{},"#, serde_json::json!(node)).as_bytes());
    }
    out.extend_from_slice(format!(r#""epoch":"{epoch}","next":{next},"rows":["#).as_bytes());
    for (at, row) in rows.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row);
    }
    let [trace, debug, info, warn, error] = hidden;
    out.extend_from_slice(format!(r#"],"hidden":[{trace},{debug},{info},{warn},{error}]}}"#).as_bytes());
    Utf8Bytes::try_from(out).expect("JSON made by serde_json is UTF-8")
}

/// What a `snapshot` or `patch` consists of; `rows` are encoded already.
pub(crate) struct Patch<'a> {
    pub(crate) version: u64,
    /// Whether the service node can be reached.
    pub(crate) live: bool,
    /// The link, if to be told: its pill, and what stands above the page while it is not live.
    pub(crate) link: Option<(&'a LinkStatus, String, String)>,
    /// The node's strip, if to be told.
    pub(crate) node: Option<String>,
    pub(crate) summary: Summary,
    /// The same in words, as markup.
    pub(crate) summary_html: String,
    /// All ids there are, if this is a snapshot: the page drops what is not among them.
    pub(crate) all: Option<Vec<String>>,
    pub(crate) removed: Vec<String>,
}

/// A snapshot or a patch.
pub(crate) fn patch(patch: &Patch<'_>, rows: &[std::sync::Arc<str>]) -> Utf8Bytes {
    let summary = &patch.summary;
    let state = match patch.live {
        false => "gone",
        true if summary.failing + summary.overdue > 0 => "failing",
        true if summary.running > 0 => "busy",
        true => "ok",
    };
    let mut head = serde_json::json!({
        "t": if patch.all.is_some() { "snapshot" } else { "patch" },
        "version": patch.version,
        "summary": {
            "state": state, "total": summary.total, "running": summary.running,
            "failing": summary.failing, "overdue": summary.overdue, "paused": summary.paused, "html": patch.summary_html,
        },
    });
    if let Some((link, pill, stale)) = &patch.link {
        head["link"] = serde_json::json!({ "state": link.state, "html": pill, "stale": stale });
    }
    if let Some(strip) = &patch.node {
        head["node"] = serde_json::json!({ "html": strip });
    }
    if let Some(all) = &patch.all {
        head["all"] = serde_json::json!(all);
    }
    if !patch.removed.is_empty() {
        head["removed"] = serde_json::json!(patch.removed);
    }
    let mut text = head.to_string();
    text.pop();
    text.push_str(r#","rows":["#);
    text.push_str(&rows.join(","));
    text.push_str("]}");
    text.into()
}

/// The history of a dispatcher; `mark` is another when the history is.
pub(crate) fn history(dispatcher: &str, mark: &str, html: &str) -> Utf8Bytes {
    json(&serde_json::json!({ "t": "history", "dispatcher": dispatcher, "mark": mark, "html": html }))
}

/// A row with the id it replaces.
pub(crate) fn row(name: &str, html: &str) -> std::sync::Arc<str> {
    serde_json::json!({ "id": format!("d-{name}"), "html": html }).to_string().into()
}

fn json(value: &serde_json::Value) -> Utf8Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_say_is_understood() {
        let read = |text: &str| serde_json::from_str::<Said>(text);
        assert!(matches!(read(r#"{"t":"hello","v":1}"#).unwrap(), Said::Hello { v: 1 }));
        assert!(matches!(read(r#"{"t":"ping"}"#).unwrap(), Said::Ping {}));
        assert!(matches!(read(r#"{"t":"ack","seq":7}"#).unwrap(), Said::Ack { seq: 7, epoch: None }));
        let text = r#"{"t":"sub","topic":"log","since":null,"level":"warn","sources":["a"],"q":"x","inverse":true,"execution":4}"#;
        let Said::Sub(wanted) = read(text).unwrap() else { panic!("a subscription") };
        assert_eq!((wanted.topic, wanted.since), (Topic::Log, None));
        let wish = Wish {
            level: Some("warn".into()),
            sources: vec!["a".into()],
            q: Some("x".into()),
            inverse: true,
            execution: Some(4),
        };
        assert_eq!(wanted.wish, wish);
        for unknown in
            [r#"{"t":"dance"}"#, "{}", "[]", "", r#"{"t":"sub","topic":"weather"}"#, r#"{"t":"ack","seq":-1}"#]
        {
            assert!(read(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn lines_are_put_together_as_json() {
        let rows = [Bytes::from_static(b"[1,2]"), Bytes::from_static(b"[3,4]")];
        let text = log(Some(&NodeId::new("n")), Epoch::from_u64(1), 3, rows.iter(), &[0, 0, 5, 0, 0]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["rows"], serde_json::json!([[1, 2], [3, 4]]));
        assert_eq!((&value["next"], &value["hidden"][2]), (&3.into(), &5.into()));
        assert_eq!(value["epoch"], "0000000000000001");
    }

    #[test]
    fn a_patch_holds_its_rows_as_they_are() {
        let rows = [row("a", "<tr id=\"d-a\">\u{2028}</tr>"), row("b", "<tr></tr>")];
        let made = Patch {
            version: 9,
            live: true,
            link: None,
            node: None,
            summary: Summary::default(),
            summary_html: String::new(),
            all: None,
            removed: vec!["d-c".into()],
        };
        let value: serde_json::Value = serde_json::from_str(&patch(&made, &rows)).unwrap();
        assert_eq!((&value["t"], &value["version"]), (&"patch".into(), &9.into()));
        assert_eq!(value["rows"][0]["html"], "<tr id=\"d-a\">\u{2028}</tr>");
        assert_eq!((&value["rows"][1]["id"], &value["removed"][0]), (&"d-b".into(), &"d-c".into()));
        let empty: serde_json::Value = serde_json::from_str(&patch(&made, &[])).unwrap();
        assert_eq!(empty["rows"], serde_json::json!([]));
    }
}
