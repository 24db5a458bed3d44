//! A script with a token: asks and acts over `/api`.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::browser::client;
use crate::support::socket::Socket;
use crate::support::wait::{PATIENCE, eventually, so, within};

/// A script with a token.
#[derive(Clone)]
pub(crate) struct Robot {
    client: Client,
    base: String,
    token: String,
}

/// The id of an execution in an answer that is one or holds one.
pub(crate) fn execution_id(answer: &Value) -> u64 {
    let found = [&answer["id"], &answer["execution"]["id"], &answer["execution"]];
    found.into_iter().find_map(Value::as_u64).unwrap_or_else(|| panic!("no execution in {answer}"))
}

impl Robot {
    pub(crate) fn new(base: &str, token: &str) -> Self {
        Self { client: client(), base: base.to_owned(), token: token.to_owned() }
    }

    /// The same script, asking another node.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self::new(base, &self.token)
    }

    /// Asks; gives the status and the body (null if it is not JSON). None if nobody answers.
    pub(crate) async fn try_ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).header("x-api-key", &self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Asks somebody who is there.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_ask(method, path, body).await.unwrap_or_else(|| panic!("{path}: nobody answers"))
    }

    /// Reads something that must be there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Does something to a dispatcher (`run`, `pause`, `resume`, `cancel`); it must be taken.
    pub(crate) async fn act(&self, dispatcher: &str, verb: &str) -> Value {
        let path = format!("/api/dispatchers/{dispatcher}:{verb}");
        let (status, answer) = self.ask(Method::POST, &path, None).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Starts a run; gives its id.
    pub(crate) async fn run(&self, dispatcher: &str) -> u64 {
        execution_id(&self.act(dispatcher, "run").await)
    }

    /// Asks for a run with an idempotency key; gives the status and the body. None if nobody answers.
    pub(crate) async fn try_run(&self, dispatcher: &str, key: &str) -> Option<(u16, Value)> {
        let request = self.client.post(format!("{}/api/dispatchers/{dispatcher}:run", self.base));
        let request = request.header("x-api-key", &self.token).header("idempotency-key", key);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Everything of a list that comes in pages, newest first.
    pub(crate) async fn every(&self, path: &str, list: &str) -> Vec<Value> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}&limit=1000{before}")).await;
            all.extend(page[list].as_array().unwrap_or_else(|| panic!("no {list} in {page}")).iter().cloned());
            let Some(next) = page["next"].as_u64() else { return all };
            before = format!("&before={next}");
        }
    }

    /// A viewer's socket with this script's token; none if it can't be had now.
    pub(crate) async fn socket(&self) -> Option<Socket> {
        Socket::of_script(&self.base, &self.token).await
    }

    /// Changes a setting; it must be taken.
    pub(crate) async fn set(&self, name: &str, value: &str) {
        let path = format!("/api/settings/{name}");
        let (status, answer) = self.ask(Method::PUT, &path, Some(&json!({ "value": value }))).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    /// Asks the primary to hand over to this node; it must be taken.
    pub(crate) async fn hand_over(&self, to: &str) {
        let (status, answer) = self.ask(Method::POST, "/api/primary:handOver", Some(&json!({ "to": to }))).await;
        assert!((200..300).contains(&status), "{status} {answer}");
    }

    /// The status, if somebody answers.
    pub(crate) async fn status(&self) -> Option<Value> {
        let (status, answer) = self.try_ask(Method::GET, "/api/status", None).await?;
        (status == 200).then_some(answer)
    }

    /// How the link to the service is: `live`, `connecting` or `down`.
    pub(crate) async fn link(&self) -> Option<String> {
        Some(self.status().await?["messenger"]["state"].as_str()?.to_owned())
    }

    /// Waits until the link is live and dispatchers are there; gives how long that took.
    pub(crate) async fn until_live(&self, limit: Duration) -> Duration {
        let look = async || {
            let status = self.status().await?;
            let live = status["messenger"]["state"] == "live";
            so(live && !status["dispatchers"].as_array()?.is_empty() && Self::service_pid(&status).is_some())
        };
        within(limit, "a live link with dispatchers", look).await.1
    }

    /// The process of the service node, as the status tells it.
    pub(crate) fn service_pid(status: &Value) -> Option<u32> {
        let nodes = status["nodes"].as_array()?;
        let service = nodes.iter().find(|node| node["role"] != "web")?;
        u32::try_from(service["pid"].as_u64()?).ok()
    }

    /// Waits until the link is live to this very process.
    pub(crate) async fn until_live_with(&self, pid: u32, limit: Duration) -> Duration {
        let look = async || {
            let status = self.status().await?;
            so(status["messenger"]["state"] == "live" && Self::service_pid(&status) == Some(pid))
        };
        within(limit, &format!("a live link to the service process {pid}"), look).await.1
    }

    /// A dispatcher, as the status tells it.
    pub(crate) async fn dispatcher(&self, name: &str) -> Option<Value> {
        let status = self.status().await?;
        status["dispatchers"].as_array()?.iter().find(|dispatcher| dispatcher["name"] == name).cloned()
    }

    /// Waits until a dispatcher is in this state; gives it.
    pub(crate) async fn until_state(&self, name: &str, state: &str) -> Value {
        let what = format!("{name} in state {state}");
        eventually(&what, async || self.dispatcher(name).await.filter(|found| found["state"] == state)).await
    }

    /// The executions of a dispatcher, newest first.
    pub(crate) async fn executions(&self, dispatcher: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/executions?dispatcher={dispatcher}")).await;
        answer["executions"].as_array().unwrap_or_else(|| panic!("no executions in {answer}")).clone()
    }

    /// One execution.
    pub(crate) async fn execution(&self, id: u64) -> Value {
        let answer = self.get(&format!("/api/executions/{id}")).await;
        if answer["execution"].is_object() { answer["execution"].clone() } else { answer }
    }

    /// Waits until an execution has ended; gives it.
    pub(crate) async fn until_ended(&self, id: u64) -> Value {
        let what = format!("the end of execution {id}");
        eventually(&what, async || Some(self.execution(id).await).filter(|found| found["outcome"].is_string())).await
    }

    /// Waits until an execution has begun; gives how long that took.
    pub(crate) async fn until_begun(&self, id: u64, limit: Duration) -> Duration {
        let what = format!("the beginning of execution {id}");
        within(limit, &what, async || so(self.execution(id).await["started_at"].is_string())).await.1
    }

    /// Every line of a source since a place in the log, read in as many pages as it takes; none: what is there.
    pub(crate) async fn lines(&self, source: &str, since: Option<&str>) -> (Vec<Value>, Option<String>) {
        let mut since = since.map(str::to_owned);
        let mut lines = Vec::new();
        loop {
            let from = since.as_ref().map_or_else(String::new, |since| format!("&since={since}"));
            let answer = self.get(&format!("/api/logs?limit=1000&source={source}{from}")).await;
            let found = answer["lines"].as_array().unwrap_or_else(|| panic!("no lines in {answer}"));
            lines.extend(found.iter().cloned());
            let next = answer["next"].as_str().map(str::to_owned);
            if next.is_none() || next == since {
                return (lines, next.or(since));
            }
            since = next;
        }
    }

    /// Waits until a line of this source holds `part`; gives its text.
    pub(crate) async fn line_with(&self, source: &str, part: &str) -> String {
        let what = format!("a line of {source} with `{part}`");
        eventually(&what, async || {
            let (lines, _) = self.lines(source, None).await;
            let texts = lines.iter().filter_map(|line| line["message"].as_str());
            texts.into_iter().find(|text| text.contains(part)).map(str::to_owned)
        })
        .await
    }

    /// Waits until nobody answers `/healthz` at this address any more.
    pub(crate) async fn until_silent(&self) {
        within(PATIENCE, "silence", async || so(self.try_ask(Method::GET, "/healthz", None).await.is_none())).await;
    }
}
