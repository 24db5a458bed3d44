//! A job that asks an address and judges the answer.

use std::error::Error as _;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::Instant;

use crate::model::log_entry::Level;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::jobs::lines::Lines;

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// How much of an answer is read, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How many lines of an answer that is not as expected are logged.
const SHOWN_LINES: usize = 20;

/// A job that asks an address.
#[derive(Debug)]
pub(crate) struct HttpCheck {
    /// What it is.
    pub(crate) definition: Definition,
    /// Whom it asks; checked when the configuration file was read.
    pub(crate) url: String,
    /// The answers that mean success; 200–299 if empty.
    pub(crate) expect: Vec<u16>,
    /// How long the answer may take.
    pub(crate) limit: Duration,
    /// Made at the first run, kept for the connections it holds open.
    pub(crate) client: OnceLock<Client>,
}

#[async_trait]
impl Dispatcher for HttpCheck {
    fn definition(&self) -> Definition {
        self.definition.clone()
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        tokio::select! {
            verdict = self.check(run) => verdict,
            () = run.cancelled() => Verdict::error("ended before it was answered"),
        }
    }
}

impl HttpCheck {
    async fn check(&self, run: &Run) -> Verdict {
        let (url, client) = match (Url::parse(&self.url), self.client()) {
            (Ok(url), Ok(client)) => (url, client),
            (Err(error), _) => return Verdict::error(format!("the address can't be read: {error}")),
            (_, Err(error)) => return Verdict::error(format!("could not be asked: {}", chain(&error))),
        };
        let began = Instant::now();
        let answer = async {
            let response = client.get(url.clone()).send().await?;
            let status = response.status();
            Ok((status, read_body(response).await?))
        };
        match tokio::time::timeout(self.limit, answer).await {
            Ok(Ok((status, body))) => {
                let said = format!("{} in {} ms", words(status), began.elapsed().as_millis());
                if self.is_expected(status) {
                    run.log(Level::Info, &said);
                    Verdict::normal(said)
                } else {
                    run.log(Level::Error, &said);
                    log_body(&body, run);
                    Verdict::error(format!("{said}; expected {}", self.expected()))
                }
            }
            Ok(Err(error)) => failed(&explain(&error, &url), run),
            Err(_) => failed(
                &format!("no answer from {} within {}", host(&url), crate::config::value::show_duration(self.limit)),
                run,
            ),
        }
    }

    /// The client, which asks directly (no proxy of the environment) and trusts whom the system trusts.
    fn client(&self) -> reqwest::Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // fails if the program has chosen a provider already; then that one is used
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .no_proxy()
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    fn is_expected(&self, status: StatusCode) -> bool {
        if self.expect.is_empty() { status.is_success() } else { self.expect.contains(&status.as_u16()) }
    }

    fn expected(&self) -> String {
        if self.expect.is_empty() {
            return "200 to 299".to_owned();
        }
        self.expect.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
    }
}

fn failed(what: &str, run: &Run) -> Verdict {
    run.log(Level::Error, what);
    Verdict::error(what)
}

/// The answer's beginning, at most [`MAX_BODY`].
async fn read_body(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
    }
    Ok(body)
}

/// Logs what an unexpected answer says: most often it says why.
fn log_body(body: &[u8], run: &Run) {
    let mut shown = 0;
    let mut each = |piece: crate::service::jobs::lines::Piece<'_>| {
        if shown < SHOWN_LINES {
            shown += 1;
            run.log(Level::Info, piece.text);
        }
    };
    let mut lines = Lines::default();
    lines.feed(body, &mut each);
    lines.end(&mut each);
}

/// `200 OK`; a code of nobody's is shown alone.
fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Host and port, without what may be secret in the rest of the address.
fn host(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// Why there was no answer, in words that tell the usual reasons apart.
fn explain(error: &reqwest::Error, url: &Url) -> String {
    // after a redirect it is somebody else who does not answer
    let host = host(error.url().unwrap_or(url));
    if error.is_redirect() {
        return format!("{host} redirects more than {REDIRECTS} times");
    }
    for cause in causes(error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(why) => format!("the certificate of {host} is not valid: {why}"),
                other => format!("no secure connection to {host}: {other}"),
            };
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                return format!("{host} refused the connection: nothing listens there");
            }
            Some(io::ErrorKind::TimedOut) => return format!("{host} does not answer"),
            Some(io::ErrorKind::ConnectionReset) => return format!("{host} broke the connection off"),
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                return format!("there is no way to {host}: {cause}");
            }
            _ => {}
        }
        // hyper's error has no other mark
        if cause.to_string() == "dns error" {
            return format!("the name {} can't be found", host.rsplit_once(':').map_or(&*host, |(name, _)| name));
        }
    }
    format!("no answer from {host}: {}", chain(error))
}

/// What is behind an error, from the outside in. Errors of the system may wrap others without calling them their source.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| wrapped(*cause))
}

fn wrapped<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e (dyn std::error::Error + 'static)> {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => cause.source(),
    }
}

/// The innermost reasons of an error, without the address, which may hold secrets.
fn chain(error: &reqwest::Error) -> String {
    let mut reasons: Vec<String> = causes(error).map(ToString::to_string).collect();
    reasons.dedup();
    if reasons.is_empty() { "the request can't be made".to_owned() } else { reasons.join(": ") }
}
