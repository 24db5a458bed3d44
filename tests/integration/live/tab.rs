//! A browser's tab, as far as these tests need one: it speaks the protocol and keeps account of every line.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use switchboard::model::log_entry::Level;
use switchboard::model::user::ServiceRole;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::stage::{Stage, entry};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Tab {
    pub(crate) wire: Wire,
    pub(crate) account: Account,
    /// Ids of rows, with their HTML.
    pub(crate) rows: BTreeMap<String, String>,
    pub(crate) link: Value,
    /// The node's strip.
    pub(crate) node: String,
    pub(crate) summary: Value,
}

/// Every number of a life is a line, hidden or lost, exactly once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) place: Option<(String, u64)>,
    pub(crate) lines: u64,
    pub(crate) hidden: u64,
    pub(crate) lost: u64,
    pub(crate) restarts: u64,
    pub(crate) texts: Vec<String>,
}

impl Account {
    pub(crate) fn since(&self) -> Option<String> {
        self.place.as_ref().map(|(epoch, seq)| format!("{epoch}:{seq}"))
    }

    pub(crate) fn take(&mut self, message: &Value) {
        let Some(epoch) = message["epoch"].as_str() else { return };
        let number = |value: &Value| value.as_u64().unwrap();
        if message["t"] == "restart" {
            self.place = Some((epoch.to_owned(), 0));
            self.restarts += 1;
            return;
        }
        let before = self.place.as_ref().map(|(life, seq)| {
            assert_eq!(life, epoch, "no life begins without a word");
            *seq
        });
        match message["t"].as_str().unwrap() {
            "gap" => {
                let (from, to) = (number(&message["from"]), number(&message["to"]));
                if let Some(before) = before {
                    assert_eq!(from, before + 1, "a gap begins where the tab stands");
                }
                self.lost += to - from + 1;
                self.place = Some((epoch.to_owned(), to));
            }
            "log" => {
                let rows = message["rows"].as_array().unwrap();
                let mut last = before;
                for row in rows {
                    let seq = number(&row[0]);
                    assert!(last.is_none_or(|last| seq > last), "{seq} after {last:?}: twice, or out of order");
                    last = Some(seq);
                    self.texts.push(row[6].as_str().unwrap().to_owned());
                }
                let hidden: u64 = message["hidden"].as_array().unwrap().iter().map(&number).sum();
                let next = number(&message["next"]);
                if let Some(before) = before.filter(|_| self.lines > 0 || rows.is_empty()) {
                    let told = rows.len() as u64 + hidden;
                    let pending = next - before;
                    assert!(told <= pending, "{told} told of {pending}");
                    // lines that did not pass are counted with the last message of a batch
                    self.hidden += pending - rows.len() as u64;
                }
                self.lines += rows.len() as u64;
                self.place = Some((epoch.to_owned(), next));
            }
            _ => {}
        }
    }
}

pub(crate) fn request(stage: &Stage) -> Request {
    let mut request = format!("ws://{}/status/live", stage.address).into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("cookie", stage.cookie.parse().unwrap());
    headers.insert("origin", format!("http://{}", stage.address).parse().unwrap());
    request
}

/// The status of a refusal.
pub(crate) async fn refused(request: Request) -> u16 {
    match tokio_tungstenite::connect_async(request).await {
        Ok(_) => 101,
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

impl Stage {
    /// One line.
    pub(crate) fn write(&self, text: &str) {
        self.log().push(entry(Level::Info, "test", text));
    }

    /// A connection of a stranger to the database.
    pub(crate) async fn stranger(&self) -> SqliteConnection {
        let file = self.root.path().join("data").join("switchboard.db");
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A token of somebody with this role.
    pub(crate) async fn token(&self, role: ServiceRole) -> String {
        self.token_of(&format!("script-{}", role.as_str()), role).await
    }
}

impl Tab {
    pub(crate) async fn connect(stage: &Stage) -> Self {
        Self::connect_as(request(stage)).await
    }

    pub(crate) async fn connect_as(request: Request) -> Self {
        let (wire, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.unwrap().unwrap();
        let (rows, link, node, summary) = (BTreeMap::new(), Value::Null, String::new(), Value::Null);
        Self { wire, account: Account::default(), rows, link, node, summary }
    }

    /// Connected and greeted.
    pub(crate) async fn open(stage: &Stage) -> Self {
        let mut tab = Self::connect(stage).await;
        tab.hello().await;
        tab
    }

    pub(crate) async fn hello(&mut self) {
        self.say(json!({"t": "hello", "v": 1})).await;
        self.until(|message| message["t"] == "hello").await;
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.wire.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn follow_status(&mut self) {
        self.say(json!({"t": "sub", "topic": "status"})).await;
        self.until(|message| message["t"] == "snapshot").await;
    }

    /// Follows lines from where the account stands, or from `since`.
    pub(crate) async fn follow_log(&mut self, since: Option<String>) {
        self.say(json!({"t": "sub", "topic": "log", "since": since})).await;
    }

    /// The next message that is no ping; none when the socket is closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let heard = timeout(PATIENCE, self.wire.next()).await.expect("a message in time");
            let text = match heard {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                _ => return None,
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["t"] == "ping" {
                continue;
            }
            self.account.take(&message);
            if message["t"] == "snapshot" {
                self.rows.clear();
            }
            for row in message["rows"].as_array().into_iter().flatten().filter(|row| row.is_object()) {
                self.rows.insert(row["id"].as_str().unwrap().into(), row["html"].as_str().unwrap().into());
            }
            if !message["link"].is_null() {
                self.link = message["link"].clone();
            }
            if let Some(strip) = message["node"]["html"].as_str() {
                strip.clone_into(&mut self.node);
            }
            if !message["summary"].is_null() {
                self.summary = message["summary"].clone();
            }
            return Some(message);
        }
    }

    /// Reads until a message is the one that was waited for.
    pub(crate) async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next().await.expect("the socket stays open");
            if is_it(&message) {
                return message;
            }
        }
    }

    pub(crate) async fn acknowledge(&mut self) {
        if let Some((epoch, seq)) = self.account.place.clone() {
            self.say(json!({"t": "ack", "epoch": epoch, "seq": seq})).await;
        }
    }

    /// Reads and acknowledges until the account stands at this place or later.
    pub(crate) async fn read_to(&mut self, epoch: &str, seq: u64) {
        while !self.account.place.as_ref().is_some_and(|(life, at)| life == epoch && *at >= seq) {
            let message = self.next().await.expect("the socket stays open");
            if message["t"] != "patch" {
                self.acknowledge().await;
            }
        }
    }

    /// The goodbye, and the number the socket was closed with.
    pub(crate) async fn goodbye(&mut self) -> (String, u16) {
        let mut code = String::new();
        loop {
            match timeout(PATIENCE, self.wire.next()).await.expect("a goodbye in time") {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["t"] == "bye" {
                        assert!(!message["text"].as_str().unwrap().is_empty());
                        message["code"].as_str().unwrap().clone_into(&mut code);
                    }
                }
                Some(Ok(Message::Close(Some(close)))) => return (code, close.code.into()),
                Some(Ok(_)) => {}
                other => panic!("no goodbye but {other:?}"),
            }
        }
    }
}
