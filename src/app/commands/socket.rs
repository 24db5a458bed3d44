//! One WebSocket to a node far away, opened with a token: says hello, acknowledges, notices silence.

use std::time::Duration;

use axum::http::{StatusCode, header};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::base::id::{Cursor, Epoch};
use crate::base::visible::visible;
use crate::web::viewer::wire::VERSION;

/// The node says something at least every 2 s; after so long a silence the connection is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// The node hears something at least so often.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The longest message taken, in bytes.
const LONGEST: usize = 4 << 20;

/// The longest refusal shown, in characters.
const LONGEST_REFUSAL: usize = 300;

/// How the node is reached.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Without a slash at the end.
    pub url: &'a str,
    /// For `x-api-key`.
    pub token: &'a secrecy::SecretString,
    /// Asks.
    pub client: &'a reqwest::Client,
}

/// Why there are no more messages.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another connection may go on.
    Broken(String),
    /// Trying again is of no use.
    ForGood(String),
}

impl Ended {
    /// In words.
    pub fn text(&self) -> &str {
        match self {
            Self::Broken(text) | Self::ForGood(text) => text,
        }
    }
}

/// A socket that is open.
pub struct Socket {
    stream: WebSocketStream<Upgraded>,
    heard_at: Instant,
    said_at: Instant,
}

impl Socket {
    /// Opens one and subscribes.
    ///
    /// # Errors
    /// If the node can't be reached or refuses.
    pub async fn open(way: Way<'_>, subscription: &Value) -> Result<Self, Ended> {
        let unreachable = |error: reqwest::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Ended::Broken(format!("{} does not answer{cause}", way.url))
        };
        let key = generate_key();
        let request = way
            .client
            .get(format!("{}/status/live", way.url))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header("x-api-key", way.token.expose_secret());
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(status, &answer.text().await.unwrap_or_default()));
        }
        let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(Ended::ForGood(format!("what answers at {} is no WebSocket", way.url)));
        }
        let connection = answer.upgrade().await.map_err(unreachable)?;
        let limits = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
        let stream = WebSocketStream::from_raw_socket(connection, Role::Client, Some(limits)).await;
        let mut socket = Self { stream, heard_at: Instant::now(), said_at: Instant::now() };
        socket.say(&json!({ "t": "hello", "v": VERSION })).await?;
        socket.say(subscription).await?;
        Ok(socket)
    }

    /// The next message that is about what is followed.
    ///
    /// # Errors
    /// If there will be none on this socket.
    pub async fn next(&mut self) -> Result<Value, Ended> {
        loop {
            let heard = tokio::select! {
                heard = self.stream.next() => heard,
                () = sleep_until(self.said_at + PING_EVERY) => {
                    self.say(&json!({ "t": "ping" })).await?;
                    continue;
                }
                () = sleep_until(self.heard_at + SILENCE) => {
                    return Err(Ended::Broken(format!("nothing was heard of the node for {} s", SILENCE.as_secs())));
                }
            };
            self.heard_at = Instant::now();
            let text = match heard {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => return Err(Ended::Broken("the connection is closed".to_owned())),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Ended::Broken(format!("the connection is lost: {error}"))),
            };
            let message: Value = serde_json::from_str(&text)
                .map_err(|_| Ended::ForGood("the node says what is no JSON; is it a Switchboard?".to_owned()))?;
            match message["t"].as_str() {
                Some("hello" | "ping") => {}
                Some("bye") => return Err(goodbye(&message)),
                _ => {
                    if let Some(at) = place(&message) {
                        self.say(&json!({ "t": "ack", "epoch": at.epoch, "seq": at.seq })).await?;
                    }
                    return Ok(message);
                }
            }
        }
    }

    async fn say(&mut self, message: &Value) -> Result<(), Ended> {
        let said = timeout(SILENCE, self.stream.send(Message::text(message.to_string()))).await;
        self.said_at = Instant::now();
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::Broken(format!("the connection is lost: {error}"))),
            Err(_) => Err(Ended::Broken("the node takes nothing any more".to_owned())),
        }
    }
}

/// The place in the log after a message with lines or a gap. That another life begins moves nobody: whoever goes on from before is
/// told of it again, and of no line twice.
pub fn place(message: &Value) -> Option<Cursor> {
    let epoch: Epoch = message["epoch"].as_str()?.parse().ok()?;
    let seq = match message["t"].as_str()? {
        "log" => message["next"].as_u64()?,
        "gap" => message["to"].as_u64()?,
        _ => return None,
    };
    Some(Cursor { epoch, seq })
}

/// Why no socket was opened.
fn refused(status: StatusCode, text: &str) -> Ended {
    let line: String = text.lines().next().unwrap_or_default().chars().take(LONGEST_REFUSAL).collect();
    let said = if line.is_empty() || line.starts_with('<') { status.to_string() } else { visible(&line).into_owned() };
    match status {
        StatusCode::UNAUTHORIZED => Ended::ForGood(format!("the token in SWITCHBOARD_TOKEN is not valid: {said}")),
        StatusCode::FORBIDDEN => Ended::ForGood(said),
        StatusCode::TOO_MANY_REQUESTS => Ended::Broken(said),
        status if status.is_server_error() => Ended::Broken(said),
        _ => Ended::ForGood(format!("there is no live WebSocket at this address ({said}): does a proxy let it pass?")),
    }
}

/// Why the node ends the socket.
fn goodbye(message: &Value) -> Ended {
    let text = visible(message["text"].as_str().unwrap_or_default()).into_owned();
    match message["code"].as_str() {
        Some("signed-out") => {
            Ended::ForGood("the token is not valid any more, or its user may not look any more".to_owned())
        }
        Some("version" | "bad-message" | "too-long") => Ended::ForGood(text),
        _ => Ended::Broken(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_with_lines_or_a_gap_moves_the_place() {
        let epoch = "000000000000002a";
        let at = |message: Value| place(&message).map(|at| at.to_string());
        assert_eq!(at(json!({"t": "log", "epoch": epoch, "next": 7})), Some(format!("{epoch}:7")));
        assert_eq!(at(json!({"t": "gap", "epoch": epoch, "from": 8, "to": 9})), Some(format!("{epoch}:9")));
        assert_eq!(at(json!({"t": "restart", "epoch": epoch})), None, "whoever resumes is told again");
        assert_eq!(at(json!({"t": "ping", "now": 1})), None);
    }

    #[test]
    fn a_refusal_for_good_is_told_from_one_for_now() {
        assert!(
            matches!(refused(StatusCode::UNAUTHORIZED, "no"), Ended::ForGood(text) if text.contains("SWITCHBOARD_TOKEN"))
        );
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, "later\n"), Ended::Broken("later".into()));
        assert!(matches!(refused(StatusCode::OK, "<html>"), Ended::ForGood(text) if text.contains("proxy")));
        let bye = |code: &str| goodbye(&json!({ "t": "bye", "code": code, "text": "x\u{1b}" }));
        assert!(matches!(bye("signed-out"), Ended::ForGood(_)));
        assert_eq!(bye("draining"), Ended::Broken("x␛".into()));
    }
}
