//! Whoever may not look any more gets nothing more, however the page behaves.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use switchboard::control::Actor;
use switchboard::model::log_entry::Level;
use switchboard::model::user::ServiceRole;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::eventually;
use super::stage::{Stage, entry};
use super::tab::{Tab, request};

/// What `docs/security.md` promises, and a little for a slow machine.
const ENDED_WITHIN: Duration = Duration::from_secs(6);

/// A tab that came with a token, not a cookie.
async fn by_token(stage: &Stage) -> Tab {
    let mut request = request(stage);
    let headers = request.headers_mut();
    headers.remove("cookie");
    headers.insert("x-api-key", stage.token(ServiceRole::AdminViewer).await.parse().unwrap());
    let mut tab = Tab::connect_as(request).await;
    tab.hello().await;
    tab
}

/// The token of [`by_token`] is another from now on.
async fn revoke(stage: &Stage) {
    let admin = Actor { who: "cli:0".into(), address: "local".into(), roles: vec![ServiceRole::ServiceAdmin] };
    stage.web.control.new_token(&admin, "script-admin_viewer").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_talks_without_end_is_sent_away() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    for _ in 0..6000 {
        // refused in the middle: the rest is not taken any more
        if tab.wire.feed(Message::text(json!({ "t": "ack", "seq": 1 }).to_string())).await.is_err() {
            break;
        }
    }
    let _ = tab.wire.flush().await;
    let said = async {
        loop {
            match tab.wire.next().await {
                Some(Ok(Message::Text(text))) if text.contains("too-many") => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    };
    assert!(timeout(ENDED_WITHIN, said).await.expect("it is sent away"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_nothing_keeps_neither_its_seat_nor_the_node() {
    let stage = Stage::begin().await;
    let mut tab = by_token(&stage).await;
    tab.say(json!({ "t": "sub", "topic": "log" })).await;
    tab.next().await.expect("it follows");
    // more than the kernel holds for a page that says it has everything and reads nothing
    for _ in 0..60 {
        for _ in 0..60 {
            stage.log().push(entry(Level::Info, "test", &"x".repeat(16_000)));
        }
        tab.say(json!({ "t": "ack", "seq": 1_000_000 })).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    revoke(&stage).await;
    let revoked = Instant::now();
    eventually("a free seat", || async { (stage.web.viewers.count() == 0).then_some(()) }).await;
    assert!(revoked.elapsed() < ENDED_WITHIN, "after {:?}", revoked.elapsed());
    drop(tab);
    stage.end().await;
}
