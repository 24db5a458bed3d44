//! The way of every command to a node: `/api`, in this process over the data directory, or at `--url`.
//!
//! On the node's machine who can read the data directory is administrator; there the same routes answer without a socket, as
//! `cli:UID`. So a command does the same thing on both ways, and what `/api` refuses is refused here too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::api::{self, Api};
use crate::app::cli::{Global, Named};
use crate::app::commands::{maintenance, say};
use crate::app::configuration::{Configuration, Problems};
use crate::app::{messenger, nodes, settings};
use crate::auth::password::Passwords;
use crate::auth::sign_in::SignIn;
use crate::base::chain::chain;
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::shutdown::Shutdown;
use crate::base::visible::visible;
use crate::config::base_path::BasePath;
use crate::control::{Actor, Control, primary};
use crate::live::feed;
use crate::live::hub::Hub;
use crate::messenger::client::{Client, LinkState};
use crate::messenger::{Identity, Pace};
use crate::model::user::ServiceRole;
use crate::store::Store;

/// The longest answer read.
const MAX_ANSWER: usize = 16 << 20;

/// A command waits so long for the service node before it goes on without: what matters is in the database.
const LINK_PATIENCE: Duration = Duration::from_secs(1);

/// An answer from afar takes no longer, or is given up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(40);

/// The way to a node.
pub enum Door {
    /// Over the data directory, in this process.
    Local(Box<Local>),
    /// Over HTTP.
    Remote {
        /// Without a slash at the end.
        url: String,
        /// For `x-api-key`.
        token: SecretString,
        /// Asks.
        client: reqwest::Client,
    },
}

/// The address of a node, without a slash at the end.
///
/// # Errors
/// If it is none.
fn address(text: &str) -> anyhow::Result<String> {
    let is_one = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if reqwest::Url::parse(text).as_ref().is_ok_and(is_one) {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    let what = format!(
        "--url (SWITCHBOARD_URL): `{}` is no address of a node; allowed: http://HOST:PORT or https://HOST, \
         as http://127.0.0.1:8080",
        visible(text)
    );
    Err(Problems(vec![what]).into())
}

/// Why there was no answer; what to do about a certificate that nobody vouches for.
fn unreached(url: &str, error: reqwest::Error) -> anyhow::Error {
    let distrusted = chain(&error).contains("certificate");
    let hint = if distrusted { "; `--ca-file FILE` names an authority of your own" } else { "" };
    anyhow::Error::from(error).context(format!("{url} does not answer{hint}"))
}

/// The certificates of a file, for `--ca-file`.
///
/// # Errors
/// If there are none, or it can't be read.
fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let bad = |why: String| {
        let what = format!("--ca-file (SWITCHBOARD_CA_FILE): {}: {why}; allowed: certificates in PEM", file.display());
        anyhow::Error::from(Problems(vec![what]))
    };
    let bytes = std::fs::read(file).map_err(|error| bad(format!("can't be read: {error}")))?;
    match reqwest::Certificate::from_pem_bundle(&bytes) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(bad("there is no certificate in it".to_owned())),
    }
}

/// What the local way keeps alive.
pub struct Local {
    /// What this process hears of the service node.
    pub hub: Hub,
    /// The database.
    pub store: Store,
    router: Router,
    actor: Actor,
    shutdown: Shutdown,
}

impl Door {
    /// Opens the way that the command line says.
    ///
    /// # Errors
    /// If the data directory can't be opened, or `--url` is given without a token.
    pub async fn open(global: &Global) -> anyhow::Result<Self> {
        Self::to_node(global, false).await
    }

    /// The same; makes the database if there is none, and says so: for what may be done before the first start.
    ///
    /// # Errors
    /// As [`Door::open`].
    pub async fn open_or_make(global: &Global) -> anyhow::Result<Self> {
        Self::to_node(global, true).await
    }

    async fn to_node(global: &Global, make: bool) -> anyhow::Result<Self> {
        let Some(url) = &global.url else {
            return Ok(Self::Local(Box::new(Local::open(global, make).await?)));
        };
        let url = address(url)?;
        let token = std::env::var("SWITCHBOARD_TOKEN").ok().filter(|token| !token.trim().is_empty()).context(
            "--url needs a token in SWITCHBOARD_TOKEN, which is not set; \
             `switchboard user add NAME --role service_admin --token` makes one where the node is",
        )?;
        // fails if a provider is chosen already; then that one is used
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities = global.ca_file.as_deref().map_or_else(|| Ok(Vec::new()), authorities)?;
        let client = reqwest::Client::builder().timeout(ANSWER_PATIENCE).tls_certs_merge(authorities).build()?;
        Ok(Self::Remote { url, token: token.into(), client })
    }

    /// Asks, and gives the answer's JSON.
    ///
    /// # Errors
    /// What the node refused, in its words; or that it can't be reached.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let (status, bytes) = match self {
            Self::Local(local) => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Body::from(body))?;
                request.extensions_mut().insert(local.actor.clone());
                let Ok(response) = local.router.clone().oneshot(request).await;
                let status = response.status();
                (status, axum::body::to_bytes(response.into_body(), MAX_ANSWER).await?)
            }
            Self::Remote { url, token, client } => {
                let request = client
                    .request(method, format!("{url}{path}"))
                    .header("x-api-key", token.expose_secret())
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(body);
                let response = request.send().await.map_err(|error| unreached(url, error))?;
                (response.status(), response.bytes().await?)
            }
        };
        let answer: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).context("the answer is no JSON")?
        };
        if status.is_success() {
            return Ok(answer);
        }
        match answer["error"]["message"].as_str() {
            // what was said on the command line can't be had: as bad as a bad option
            Some(message) if status == StatusCode::BAD_REQUEST => Err(Problems(refused(&answer, message)).into()),
            Some(message) if status == StatusCode::UNAUTHORIZED => {
                bail!("the token in SWITCHBOARD_TOKEN is not valid: {message}")
            }
            Some(message) => bail!("{message}"),
            None => bail!("the node answered {status}"),
        }
    }

    /// Ends what the local way started.
    pub async fn close(self) {
        if let Self::Local(local) = self {
            local.shutdown.stop_now();
            // whatever does not end in time ends with the process
            let _ = local.shutdown.finished(Duration::from_secs(2)).await;
        }
    }
}

/// Everything that a node found wrong, one line each.
fn refused(answer: &Value, message: &str) -> Vec<String> {
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let errors = answer["error"]["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if errors.len() < 2 {
        return vec![message.to_owned()];
    }
    errors.iter().map(|error| format!("{}: {}", text(error, "field"), text(error, "message"))).collect()
}

impl Local {
    async fn open(global: &Global, make: bool) -> anyhow::Result<Self> {
        let configuration = Configuration::load(global)?;
        let data = configuration.data.clone();
        let clock: SharedClock = Arc::new(SystemClock);
        let shutdown = Shutdown::new();
        let store = if make {
            maintenance::open_or_make(&configuration, &shutdown).await?
        } else {
            maintenance::open(&configuration, &shutdown).await?
        };
        let fixed = Arc::new(configuration.fixed);
        let keys = messenger::keys(&store, &fixed, &clock).await?;
        let settings = settings::follow(&store, Arc::clone(&fixed), &shutdown).await?;
        let node = nodes::visitor();
        let pace = Pace { beat: Duration::from_secs(1), silence: Duration::from_secs(4) };
        let endpoint = messenger::endpoint(&settings.borrow(), &data);
        let target = primary::to_dial(&store, &endpoint, &node).await?;
        let identity = Identity { node: node.clone() };
        let (client, incoming) =
            Client::start(identity, target.clone(), Arc::clone(&keys), pace, Arc::clone(&clock), &shutdown);
        // what goes on for long follows the primary, as a web node does
        let applier = messenger::Applier {
            server: None,
            client: Some(client.clone()),
            dialled: Some(target),
            keys,
            data,
            node,
            presence: None,
            told: watch::channel(Vec::new()).0,
        };
        applier.start(&store, settings.clone(), &clock, &shutdown);
        let hub = Hub::new(Arc::clone(&clock));
        feed::start(&hub, client.clone(), incoming, &shutdown);
        // a service node that is not there is no reason to wait longer: the rows tell
        let _ = tokio::time::timeout(LINK_PATIENCE, linked(&hub)).await;
        let control = Control::new(store.clone(), Some(client.clone()), Arc::clone(&fixed), Arc::clone(&clock))
            .knowing({
                let hub = hub.clone();
                move || hub.is_stopping()
            });
        let sign_in = SignIn::new(store.clone(), Passwords::new(), Arc::clone(&clock));
        let router = api::router(Arc::new(Api {
            base: BasePath::default(),
            hub: hub.clone(),
            store: store.clone(),
            control,
            sign_in,
            settings,
            fixed,
            messenger: client,
            clock,
            shutdown: shutdown.clone(),
        }));
        let actor = Actor {
            who: format!("cli:{}", rustix::process::getuid().as_raw()),
            address: "local".to_owned(),
            roles: vec![ServiceRole::ServiceAdmin],
        };
        Ok(Self { hub, store, router, actor, shutdown })
    }
}

/// Waits until the hub knows of a live link, or of a second failure to have one.
async fn linked(hub: &Hub) {
    let mut versions = hub.versions();
    loop {
        let link = hub.picture().link;
        if link.state == LinkState::Live || link.attempts > 1 || versions.changed().await.is_err() {
            return;
        }
    }
}

/// What to do with a dispatcher.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    /// Run it now.
    Run,
    /// No scheduled run begins.
    Pause,
    /// Let it go on.
    Resume,
    /// End its runs.
    Cancel,
}

/// `trigger`, `pause`, `resume`, `cancel`.
///
/// # Errors
/// What the node refused, in its words.
pub async fn act(global: &Global, verb: Verb, named: &Named) -> anyhow::Result<u8> {
    let word = match verb {
        Verb::Run => "run",
        Verb::Pause => "pause",
        Verb::Resume => "resume",
        Verb::Cancel => "cancel",
    };
    let door = Door::open(global).await?;
    let answer = door.call(Method::POST, &format!("/api/dispatchers/{}:{word}", segment(&named.name)), None).await;
    door.close().await;
    let answer = answer?;
    if named.json {
        say(&answer);
    } else {
        say(told(&named.name, verb, &answer));
    }
    Ok(0)
}

/// What came of an action, in words.
fn told(name: &str, verb: Verb, answer: &Value) -> String {
    let late = if answer["stopping"] == true {
        "; it is stored: the service is stopping, and the run starts when the service is started again"
    } else if answer["told"] == false {
        "; the service can't be reached now: it looks by itself within the poll interval, or when it is started again"
    } else {
        ""
    };
    match verb {
        Verb::Run => {
            let known = if answer["new"] == false { " had been asked for already" } else { " is asked for" };
            format!("{name}: run {}{known}{late}", answer["execution"]["id"])
        }
        Verb::Pause => format!("{name} is paused{late}"),
        Verb::Resume => format!("{name} goes on{late}"),
        Verb::Cancel => {
            format!("{name}: {} runs are being ended{late}", answer["executions"].as_array().map_or(0, Vec::len))
        }
    }
}

/// A name as a segment of an address.
#[must_use]
pub fn segment(name: &str) -> String {
    use std::fmt::Write as _;

    let mut segment = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_node_is_one() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://sb.example/", "https://sb.example"),
            ("http://[::1]:8080/behind/", "http://[::1]:8080/behind"),
        ] {
            assert_eq!(address(text).unwrap(), url);
        }
        for text in ["", "notaurl", "localhost:8080", "127.0.0.1:8080", "ftp://host", "http://", "/data"] {
            let error = address(text).unwrap_err();
            assert!(error.is::<Problems>() && error.to_string().contains("allowed: http://"), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_can_not_leave_its_segment() {
        assert_eq!(segment("disk-space"), "disk-space");
        assert_eq!(segment("../x?y:z ä"), "..%2Fx%3Fy%3Az%20%C3%A4");
    }
}
