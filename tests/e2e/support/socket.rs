//! A tab's WebSocket: the live protocol as a page's script speaks it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::browser::Browser;
use crate::support::wait::{PATIENCE, wall_micros};

/// A tab's WebSocket. Dropped: cut, without a goodbye.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Opens one with this cookie and origin, or gives the status of the refusal.
    pub(crate) async fn try_open(base: &str, cookie: Option<&str>, origin: Option<&str>) -> Result<Self, u16> {
        Self::connect(base, &[("cookie", cookie), ("origin", origin)]).await
    }

    async fn connect(base: &str, headers: &[(&'static str, Option<&str>)]) -> Result<Self, u16> {
        let address = base.strip_prefix("http://").unwrap();
        let mut request = format!("ws://{address}/status/live").into_client_request().unwrap();
        for (name, value) in headers {
            if let Some(value) = value {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
        }
        let connection = TcpStream::connect(address).await.map_err(|_| 0_u16)?;
        connection.set_nodelay(true).unwrap();
        match tokio::time::timeout(PATIENCE, client_async(request, connection)).await.expect("an answer in time") {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            // cut off in the middle of it
            Err(_) => Err(0),
        }
    }

    /// Opens one with a script's token and says hello; none if that can't be had now.
    pub(crate) async fn of_script(base: &str, token: &str) -> Option<Self> {
        let mut socket = Self::connect(base, &[("x-api-key", Some(token))]).await.ok()?;
        let hello = json!({ "t": "hello", "v": 1 });
        socket.send_raw(Message::text(hello.to_string())).await.then_some(socket)
    }

    /// Opens the socket of a signed-in browser's page and says hello.
    pub(crate) async fn open(base: &str, browser: &Browser) -> Self {
        let opened = Self::try_open(base, Some(browser.cookie()), Some(base)).await;
        let mut socket = opened.unwrap_or_else(|status| panic!("the socket was refused with {status}"));
        socket.send(&json!({ "t": "hello", "v": 1 })).await;
        socket
    }

    /// Says something.
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.stream.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Sends something that is no word of the protocol; whether it went out.
    pub(crate) async fn send_raw(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    /// Wants the state of every dispatcher.
    pub(crate) async fn watch_status(&mut self) {
        self.send(&json!({ "t": "sub", "topic": "status" })).await;
    }

    /// Wants every line after a place in the log.
    pub(crate) async fn watch_log(&mut self, since: Option<&str>) {
        assert!(self.try_watch_log(since).await, "the socket is cut");
    }

    /// The same; whether it could be said.
    pub(crate) async fn try_watch_log(&mut self, since: Option<&str>) -> bool {
        let level = "trace";
        let sub = json!({ "t": "sub", "topic": "log", "since": since, "level": level, "sources": [], "q": "", "inverse": false, "execution": null });
        self.send_raw(Message::text(sub.to_string())).await
    }

    /// The next thing it is told; none at the end, or if nothing comes for so long.
    pub(crate) async fn next_within(&mut self, silence: Duration) -> Option<Value> {
        tokio::time::timeout(silence, self.receive()).await.ok()?
    }

    /// The next thing it is told; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("a frame or the end, in time")
    }

    async fn receive(&mut self) -> Option<Value> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if frame["t"] == "log" {
                        let ack = json!({ "t": "ack", "epoch": frame["epoch"], "seq": frame["next"] });
                        // the other end may have gone since; the next frame tells
                        let _ = self.stream.send(Message::text(ack.to_string())).await;
                    }
                    return Some(frame);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for a frame of this type; none if the end comes before.
    pub(crate) async fn frame(&mut self, kind: &str) -> Option<Value> {
        loop {
            let frame = self.next().await?;
            if frame["t"] == kind {
                return Some(frame);
            }
        }
    }
}

/// Reads a log over as many sockets as it takes, and checks every number on the way.
#[derive(Default)]
pub(crate) struct Follower {
    /// `EPOCH:SEQ` of the last line read: where the next socket goes on.
    pub(crate) cursor: Option<String>,
    /// The number of the last line, of whatever source.
    last: Option<u64>,
    /// Texts of the lines of the source it is about, and how long each took to come, in microseconds.
    pub(crate) lines: Vec<(String, i64)>,
    /// Gaps it was told of.
    pub(crate) gaps: Vec<Value>,
}

impl Follower {
    /// Takes one frame in. Lines must follow each other: nothing lost (but by a gap that is told), nothing twice.
    pub(crate) fn take(&mut self, frame: &Value, source: &str) {
        let epoch = frame["epoch"].as_str();
        match frame["t"].as_str() {
            Some("log") => {
                let now = wall_micros();
                for row in frame["rows"].as_array().expect("rows") {
                    let seq = row[0].as_u64().expect("a number");
                    if let Some(last) = self.last {
                        assert_eq!(seq, last + 1, "after line {last} comes {seq}");
                    }
                    self.last = Some(seq);
                    let text = row[6].as_str().expect("a text");
                    // what the job itself wrote, not what is said about its run
                    if row[3] == source && text.starts_with("line ") {
                        let text = text.to_owned();
                        let written = text.rsplit(' ').next().and_then(|word| word.parse::<i64>().ok());
                        self.lines.push((text, written.map_or(0, |written| now - written)));
                    }
                }
                let next = frame["next"].as_u64().expect("next");
                self.cursor = Some(format!("{}:{next}", epoch.expect("epoch")));
            }
            Some("gap") => {
                self.gaps.push(frame.clone());
                self.last = frame["to"].as_u64();
            }
            Some("restart") => {
                self.last = None;
                self.cursor = None;
            }
            _ => {}
        }
    }
}
