//! TLS on the web listener, as a browser and the command line meet it; under a base path at that.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::node::{Node, bare_command};
use crate::support::output::Output;
use crate::support::stage::{Done, Stage, run};
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys").join(name)
}

/// Puts a pair where the node looks for it.
fn put(stage: &Stage, pair: &str) {
    std::fs::copy(fixture(&format!("{pair}.crt")), stage.path("tls.crt")).unwrap();
    std::fs::copy(fixture(&format!("{pair}.key")), stage.path("tls.key")).unwrap();
}

fn start(stage: &Stage) -> crate::support::node::Start {
    let path = |name: &str| stage.path(name).to_str().unwrap().to_owned();
    stage.node().variable("SWITCHBOARD_TLS_CERT", path("tls.crt")).variable("SWITCHBOARD_TLS_KEY", path("tls.key"))
}

/// A browser that trusts this authority alone.
fn trusting(authority: &str) -> reqwest::Client {
    let pem = std::fs::read(fixture(authority)).unwrap();
    let authority = reqwest::Certificate::from_pem(&pem).unwrap();
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().tls_certs_only([authority]).redirect(none).timeout(PATIENCE).no_proxy().build().unwrap()
}

/// The address it prints, once it answers.
async fn address(node: &Node, client: &reqwest::Client) -> String {
    let line = node.stdout.line_with(" listens on ", PATIENCE).await;
    let url = line.split_once(" listens on ").unwrap().1.trim().to_owned();
    eventually("a node that answers over TLS", async || {
        so(client.get(format!("{url}/readyz")).send().await.ok()?.status().is_success())
    })
    .await;
    url
}

async fn far(url: &str, token: &str, arguments: &[&str]) -> Done {
    let mut command = bare_command();
    run(command.args(["--url", url]).args(arguments).env("SWITCHBOARD_TOKEN", token), "").await
}

#[tokio::test]
async fn pages_and_sockets_are_served_over_tls_under_a_base_path() {
    let stage = Stage::new().await;
    put(&stage, "first");
    let jobs = Jobs::default().shell("hello", "echo hello over TLS").save(&stage);
    let node = start(&stage).config(jobs).variable("SWITCHBOARD_BASE_PATH", "/sb").spawn();
    let browser = trusting("first-authority.crt");
    let url = address(&node, &browser).await;
    assert!(url.starts_with("https://127.0.0.1:") && url.ends_with("/sb"), "{url}");

    let page = browser.get(format!("{url}/sign-in")).send().await.unwrap();
    assert!(page.headers().contains_key("strict-transport-security"));
    let cookie = page.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("Secure") && cookie.contains("Path=/sb"), "{cookie}");
    let link = node.stdout.line_with("First administrator: ", PATIENCE).await;
    let link = link.split_whitespace().find(|word| word.starts_with("https://")).unwrap().to_owned();
    assert!(link.starts_with(&format!("{url}/setup?link=")), "{link}");
    assert_eq!(browser.get(link).send().await.unwrap().status().as_u16(), 200);

    // somebody who speaks HTTP there is told; the command line wants an authority it knows
    let host = url.strip_prefix("https://").unwrap().strip_suffix("/sb").unwrap();
    let mut plain = TcpStream::connect(host).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = String::new();
    plain.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("https://"), "{said}");

    let token = stage.token("robot", "service_admin").await;
    let refused = far(&url, &token, &["status"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("--ca-file"), "{}", refused.stderr);
    let authority = fixture("first-authority.crt");
    let authority = authority.to_str().unwrap();
    let status = far(&url, &token, &["--ca-file", authority, "status"]).await.good();
    assert!(status.contains("messenger: "), "{status}");

    // a socket outlives a new certificate
    let mut command = bare_command();
    command.args(["--url", &url, "--ca-file", authority, "logs", "--follow"]).env("SWITCHBOARD_TOKEN", &token);
    let mut follower = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (lines, _) = Output::read(follower.stdout.take().unwrap());
    let (complaints, _) = Output::read(follower.stderr.take().unwrap());
    let hello = async |times: usize| {
        far(&url, &token, &["--ca-file", authority, "trigger", "hello"]).await.good();
        eventually("the line of the job", async || so(lines.text().matches("hello over TLS").count() >= times)).await;
    };
    hello(1).await;

    std::fs::copy(fixture("second.crt"), stage.path("tls.crt")).unwrap();
    node.signal(Signal::HUP);
    let kept = node.stderr.line_with("stay as they were", PATIENCE).await;
    assert!(kept.contains("does not belong to the certificate"), "{kept}");
    hello(2).await;

    put(&stage, "second");
    node.signal(Signal::HUP);
    node.stderr.line_with("were read anew", PATIENCE).await;
    let newer = trusting("second-authority.crt");
    assert!(newer.get(format!("{url}/readyz")).send().await.unwrap().status().is_success());
    assert!(trusting("first-authority.crt").get(format!("{url}/readyz")).send().await.is_err());
    stage.run(&["trigger", "hello"]).await.good();
    eventually("the line on the old connection", async || so(lines.text().matches("hello over TLS").count() >= 3))
        .await;
    assert_eq!(complaints.text(), "", "it was never cut");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[tokio::test]
async fn a_pair_that_can_not_be_used_keeps_the_node_from_starting() {
    let stage = Stage::new().await;
    put(&stage, "first");
    std::fs::copy(fixture("second.key"), stage.path("tls.key")).unwrap();
    let foreign = run(&mut start(&stage).command(), "").await;
    assert_eq!(foreign.code, Some(64), "{}", foreign.stderr);
    assert!(foreign.stderr.contains("tls.key: this key does not belong"), "{}", foreign.stderr);
    std::fs::write(stage.path("tls.crt"), "").unwrap();
    std::fs::remove_file(stage.path("tls.key")).unwrap();
    let bad = start(&stage).variable("SWITCHBOARD_SETTING_WEB_DRAINTIME", "long");
    let all = run(&mut bad.command(), "").await;
    assert_eq!(all.code, Some(64), "{}", all.stderr);
    for part in ["DRAINTIME", "tls.crt: there is no certificate", "tls.key: can't be read"] {
        assert!(all.stderr.contains(part), "{part}: {}", all.stderr);
    }
    let alone = run(&mut stage.node().variable("SWITCHBOARD_TLS_KEY", "x").command(), "").await;
    assert!(alone.code == Some(64) && alone.stderr.contains("--tls-cert"), "{}", alone.stderr);
    let path = run(&mut stage.node().variable("SWITCHBOARD_BASE_PATH", "sb/").command(), "").await;
    assert!(path.code == Some(64) && path.stderr.contains("write it as /switchboard"), "{}", path.stderr);
    assert!(!stage.data().exists(), "nothing was touched");
}
