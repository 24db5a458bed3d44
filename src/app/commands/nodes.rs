//! `nodes` and `hand-over`: every node, which one is primary, and giving that to another.

use std::fmt::Write as _;

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::cli::Global;
use crate::app::commands::door::Door;
use crate::app::commands::{complain, say};
use crate::base::visible::visible;

/// Lists every node.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn list(global: &Global, json: bool) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let answer = door.call(Method::GET, "/api/nodes", None).await;
    door.close().await;
    let answer = answer?;
    if json {
        say(&answer);
        return Ok(0);
    }
    answer["nodes"].as_array().into_iter().flatten().for_each(|node| say(line(node)));
    if answer["primary"].is_null() {
        complain("no service node is primary: no dispatcher runs");
    }
    Ok(0)
}

/// Asks the primary to hand over.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn hand_over(global: &Global, to: Option<&str>, json: bool) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let answer = door.call(Method::POST, "/api/primary:handOver", Some(&json!({ "to": to }))).await;
    door.close().await;
    let answer = answer?;
    if json {
        say(&answer);
    } else {
        let text = |key: &str| answer[key].as_str().map(visible);
        let to = text("to").unwrap_or_else(|| "another node".into());
        say(format_args!("{} is asked to hand over to {to}", text("from").unwrap_or_default()));
    }
    Ok(0)
}

/// A node, in a line: who it is, how it is, and what is wrong with it.
fn line(node: &Value) -> String {
    let text = |key: &str| node[key].as_str().map(visible);
    let state = match (node["stopped_at"].is_null(), node["alive"] == true) {
        (false, _) => "stopped",
        (true, true) => "alive",
        (true, false) => "gone",
    };
    let mut line = format!(
        "{:<24} {:<8} {:<8} {}",
        text("id").unwrap_or_default(),
        text("role").unwrap_or_default(),
        state,
        text("version").unwrap_or_default()
    );
    if node["primary"] == true {
        line.push_str(" primary");
    }
    if let Some(address) = text("address_override").or_else(|| text("address")) {
        let _ = write!(line, " at {address}");
    }
    if state == "alive" && node["version_in_sync"] == false {
        line.push_str("; another version than in force here");
    }
    if state == "alive" && node["key_in_sync"] == false {
        let _ = write!(line, "; another messenger key: {}", text("key_fingerprint").unwrap_or_default());
    }
    if let Some(link) = node["link"].as_object() {
        let text = |key: &str| link.get(key).and_then(Value::as_str).map(visible);
        let _ = write!(line, "; link {}", text("state").unwrap_or_default());
        if let Some(error) = text("error") {
            let _ = write!(line, ": {error}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_wrong() {
        let node = |more: Value| {
            let mut node = json!({
                "id": "a", "role": "service", "version": "1.0.0", "alive": true, "stopped_at": null, "key_in_sync": true,
                "primary": false, "address": null, "address_override": null, "link": null,
            });
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line(&node).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(node(json!({})), "a service alive 1.0.0");
        let primary = json!({ "primary": true, "address": "10.0.0.1", "address_override": "gateway:81" });
        assert_eq!(node(primary), "a service alive 1.0.0 primary at gateway:81");
        assert_eq!(node(json!({ "alive": false })), "a service gone 1.0.0");
        let older = json!({ "version": "0.9.0", "version_in_sync": false });
        assert_eq!(node(older.clone()), "a service alive 0.9.0; another version than in force here");
        let gone = json!({ "version": "0.9.0", "version_in_sync": false, "alive": false });
        assert_eq!(node(gone), "a service gone 0.9.0");
        let other = json!({ "key_in_sync": false, "key_fingerprint": "7f3a" });
        assert_eq!(node(other), "a service alive 1.0.0; another messenger key: 7f3a");
        let link = json!({ "link": { "state": "down", "error": "refused\u{7}" } });
        assert_eq!(node(link), "a service alive 1.0.0; link down: refused␇");
    }
}
