//! Jobs with real processes: what they print, how they end, and that nothing of them is left.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchboard::config::job::{Job, Schedule, Work};
use switchboard::model::execution::{Outcome, Progress};
use switchboard::model::log_entry::{Level, MAX_TEXT, SPLIT_MARK, Stream};
use switchboard::service::dispatcher::{Dispatcher, Run, Verdict};
use switchboard::service::jobs::dispatchers;
use switchboard::service::jobs::host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

fn host() -> Host {
    Host { program: PathBuf::from(env!("CARGO_BIN_EXE_switchboard")), environment: BTreeMap::new() }
}

fn job(work: Work) -> Job {
    Job {
        name: "test".into(),
        title: "Test".into(),
        description: String::new(),
        work,
        schedule: Schedule::Manual,
        timeout: DEADLINE,
        retries: 0,
        retry_delay: Duration::from_secs(1),
        concurrency: 1,
        enabled: true,
        run_at_start: false,
        catch_up: false,
        overlap: false,
    }
}

fn command(argv: &[&str]) -> Work {
    Work::Command {
        argv: argv.iter().map(ToString::to_string).collect(),
        directory: None,
        environment: BTreeMap::new(),
        success: vec![0],
        warning: vec![3],
    }
}

fn shell(script: &str) -> Work {
    command(&["sh", "-c", script])
}

type Line = (Level, Option<Stream>, String);

/// One run that is going on or over.
struct Running {
    lines: watch::Receiver<Vec<Line>>,
    progress: Arc<Mutex<Vec<Progress>>>,
    cancel: CancellationToken,
    verdict: tokio::task::JoinHandle<Verdict>,
}

#[expect(clippy::disallowed_methods, reason = "no node here whose tasks would be counted")]
fn start_on(host: &Host, work: Work) -> Running {
    let dispatcher = dispatchers(&[job(work)], host).remove(0);
    let (say, lines) = watch::channel(Vec::new());
    let progress = Arc::new(Mutex::new(Vec::new()));
    let cancel = CancellationToken::new();
    let seen = Arc::clone(&progress);
    let run = Run::alone(
        "test",
        cancel.clone(),
        move |level, stream, text| {
            say.send_modify(|lines: &mut Vec<Line>| lines.push((level, stream, text.to_owned())));
        },
        move |progress| seen.lock().expect("no test panics with it").push(progress),
    );
    let verdict = tokio::spawn(async move { dispatcher.run_once(&run).await });
    Running { lines, progress, cancel, verdict }
}

fn start(work: Work) -> Running {
    start_on(&host(), work)
}

impl Running {
    /// Waits for the line that starts with `what` and gives the rest of it.
    async fn said(&mut self, what: &str) -> String {
        let found =
            |lines: &Vec<Line>| lines.iter().find_map(|(_, _, text)| text.strip_prefix(what).map(str::to_owned));
        let lines = tokio::time::timeout(DEADLINE, self.lines.wait_for(|lines| found(lines).is_some()));
        let lines = lines.await.expect("in time").expect("before the run ends");
        found(&lines).expect("it was just found")
    }

    async fn pid(&mut self, what: &str) -> i32 {
        self.said(what).await.parse().expect("a number")
    }

    /// Waits for the end and gives the verdict and every line.
    async fn ended(self) -> (Verdict, Vec<Line>) {
        let verdict = tokio::time::timeout(DEADLINE, self.verdict).await.expect("in time").expect("no panic");
        (verdict, self.lines.borrow().clone())
    }
}

async fn run(work: Work) -> (Verdict, Vec<Line>) {
    start(work).ended().await
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|(_, _, text)| &**text).collect()
}

/// Whether a process is there and not merely waiting to be reaped.
fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// Waits for what no event tells.
async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !what() {
        assert!(Instant::now() < deadline, "in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn dies(pid: i32) {
    until(|| !lives(pid)).await;
}

#[tokio::test]
async fn the_two_outputs_are_told_apart_and_kept_as_they_are() {
    let strange = "<script>alert(1)</script> \u{202e}drawkcab \u{1b}[31mred\u{1b}[0m";
    let script =
        "printf 'one\\ntwo\\n'; echo oops >&2; printf '\\377\\376x\\n'; printf '%s\\n' \"$0\"; printf 'no end'";
    let (verdict, lines) = run(command(&["sh", "-c", script, strange])).await;
    assert_eq!(verdict, Verdict::normal(None));
    let of = |wanted| {
        let of = lines.iter().filter(move |(_, stream, _)| *stream == Some(wanted));
        of.map(|(level, _, text)| (*level, &**text)).collect::<Vec<_>>()
    };
    let expected = ["one", "two", "\u{fffd}\u{fffd}x", strange, "no end"].map(|text| (Level::Info, text));
    assert_eq!(of(Stream::Stdout), expected);
    assert_eq!(of(Stream::Stderr), [(Level::Info, "oops")]);
}

#[tokio::test]
async fn arguments_go_to_the_program_untouched() {
    let (_, lines) = run(command(&["printf", "%s\n", "$HOME", "a b", "`id`", "; exit 1", ""])).await;
    assert_eq!(texts(&lines), ["$HOME", "a b", "`id`", "; exit 1", ""]);
}

#[tokio::test]
async fn exit_codes_are_judged_and_failures_say_why() {
    for (script, outcome, message) in [
        ("exit 0", Outcome::Normal, None),
        ("exit 3", Outcome::Warning, Some("exit code 3")),
        ("exit 1", Outcome::Error, Some("exit code 1")),
        ("echo copying; echo no such file >&2; exit 2", Outcome::Error, Some("exit code 2: no such file")),
        ("kill -9 $$", Outcome::Error, Some("killed by signal 9 (SIGKILL)")),
    ] {
        let (verdict, _) = run(shell(script)).await;
        assert_eq!((verdict.outcome, verdict.message.as_deref()), (outcome, message), "{script}");
    }
    let Work::Command { argv, directory, environment, warning, .. } = shell("exit 7") else { unreachable!() };
    let (verdict, _) = run(Work::Command { argv, directory, environment, success: vec![0, 7], warning }).await;
    assert_eq!(verdict, Verdict::normal("exit code 7".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("not-a-program");
    std::fs::write(&file, "\u{7f}").unwrap();
    let mut mode = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&file, mode).unwrap();
    let mut nowhere = shell("true");
    let Work::Command { directory, .. } = &mut nowhere else { unreachable!() };
    *directory = Some(place.path().join("absent"));
    for (work, words) in [
        (command(&["no-such-program-of-ours"]), "is not on the path"),
        (command(&["/no/such/program"]), "there is no program /no/such/program"),
        (command(&["/etc/passwd"]), "is not executable"),
        (command(&[file.to_str().unwrap()]), "Exec format error"),
        (nowhere, "No such file or directory"),
    ] {
        let (verdict, _) = run(work).await;
        let message = verdict.message.unwrap();
        assert_eq!(verdict.outcome, Outcome::Error, "{message}");
        assert!(message.starts_with("could not be started: ") && message.contains(words), "{message}");
    }
    let absent = Host { program: "/no/such/guard".into(), environment: BTreeMap::new() };
    let (verdict, _) = start_on(&absent, shell("true")).ended().await;
    assert!(verdict.message.unwrap().contains("the guard /no/such/guard does not start"));
    // a program that does not know how to be a guard
    let stranger = Host { program: "/bin/true".into(), environment: BTreeMap::new() };
    let (verdict, _) = start_on(&stranger, shell("true")).ended().await;
    assert!(verdict.message.unwrap().contains("main_if_asked"));
}

#[tokio::test]
async fn environment_and_directory_are_as_said() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::Command {
        argv: ["sh", "-c", "pwd; env"].map(str::to_owned).to_vec(),
        directory: Some(place.path().to_owned()),
        environment: BTreeMap::from([
            ("GREETING".to_owned(), "grüß dich".to_owned()),
            ("B".to_owned(), "job".to_owned()),
        ]),
        success: vec![0],
        warning: vec![],
    };
    let host = host().with("A", "host").with("B", "host");
    let (_, lines) = start_on(&host, work).ended().await;
    let texts = texts(&lines);
    assert_eq!(PathBuf::from(texts[0]), place.path().canonicalize().unwrap());
    for line in ["GREETING=grüß dich", "A=host", "B=job", "SWITCHBOARD_EXECUTION=1", "SWITCHBOARD_DISPATCHER=test"] {
        assert!(texts.contains(&line), "{line} in {texts:?}");
    }
    let ours: Vec<_> = texts.iter().filter(|line| line.starts_with("SWITCHBOARD_")).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    assert!(texts.iter().any(|line| line.starts_with("PATH=")), "the node's other variables are there");
}

#[tokio::test]
async fn the_nodes_own_variables_do_not_reach_a_job() {
    // a process's variables can't be changed safely, so it is another one that has them
    let node = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "jobs::environment_and_directory_are_as_said"])
        .env("SWITCHBOARD_ENCRYPTION_KEY", "secret")
        .env("SWITCHBOARD_TOKEN", "secret")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&node.stdout);
    assert!(node.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn progress_moves_the_bar_and_is_no_line() {
    let running =
        start(shell("echo begin; echo '::progress 3/10 indexing'; echo '::progress 4/x'; echo '::progress 1/2' >&2"));
    let progress = Arc::clone(&running.progress);
    let (_, mut lines) = running.ended().await;
    lines.sort_by_key(|(_, stream, _)| *stream == Some(Stream::Stderr));
    assert_eq!(texts(&lines), ["begin", "::progress 4/x", "::progress 1/2"]);
    assert_eq!(*progress.lock().unwrap(), [Progress { done: 3, total: 10, text: Some("indexing".into()) }]);
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_newline_come_in_pieces() {
    const BYTES: usize = 100 << 20;
    let dispatcher = dispatchers(&[job(shell("head -c 104857600 /dev/zero | tr '\\0' x"))], &host()).remove(0);
    // only counted: what is kept of them is the ring's business
    let counts = Arc::new(Mutex::new((0, 0, 0)));
    let seen = Arc::clone(&counts);
    let run = Run::alone(
        "test",
        CancellationToken::new(),
        move |_, _, text| {
            let mut counts = seen.lock().unwrap();
            counts.0 += 1;
            counts.1 += text.trim_end_matches(SPLIT_MARK).len();
            counts.2 = counts.2.max(text.len());
        },
        |_| {},
    );
    let verdict = tokio::time::timeout(DEADLINE, dispatcher.run_once(&run)).await.expect("in time");
    assert_eq!(verdict, Verdict::normal(None));
    let (pieces, bytes, longest) = *counts.lock().unwrap();
    assert_eq!((bytes, longest), (BYTES, MAX_TEXT));
    assert_eq!(pieces, BYTES.div_ceil(MAX_TEXT - SPLIT_MARK.len()));
}

#[tokio::test]
async fn whatever_a_command_leaves_behind_dies_with_the_run() {
    let place = tempfile::tempdir().unwrap();
    // in its group, in a session of its own, and in one whose parent has ended; the command ends when all of them run
    let script = "sleep 1000 >/dev/null 2>&1 & echo group $!; \
                  setsid sh -c 'echo session $$; : >session; exec sleep 1000 >/dev/null 2>&1' & \
                  (setsid setsid sh -c 'trap \"\" TERM HUP; echo orphan $$; : >orphan; while :; do sleep 1000; done' & ); \
                  until [ -e session ] && [ -e orphan ]; do sleep 0.02; done";
    let mut work = shell(script);
    let Work::Command { directory, .. } = &mut work else { unreachable!() };
    *directory = Some(place.path().to_owned());
    let mut running = start(work);
    let pids = [running.pid("group ").await, running.pid("session ").await, running.pid("orphan ").await];
    let (verdict, lines) = running.ended().await;
    assert_eq!(verdict, Verdict::normal(None), "they do not change how the command ended");
    assert_eq!(pids.map(lives), [false; 3], "dead before the run is over");
    let left = lines.iter().find(|(level, _, _)| *level == Level::Warn).expect("it is told");
    assert!(left.2.contains("behind, ended now"), "{left:?}");
}

#[tokio::test]
async fn what_ends_by_itself_soon_after_the_command_is_left_alone() {
    let (verdict, lines) = run(shell("echo rest & echo done")).await;
    let mut texts = texts(&lines);
    texts.sort_unstable();
    assert_eq!((verdict, texts), (Verdict::normal(None), vec!["done", "rest"]));
}

#[tokio::test]
async fn a_cancelled_run_is_ended_politely_and_wholly() {
    let script = "trap 'echo bye; exit 3' TERM; (setsid sleep 1000 & echo child $!; wait) & echo ready; while :; do sleep 0.05; done";
    let mut running = start(shell(script));
    let child = running.pid("child ").await;
    running.said("ready").await;
    running.cancel.cancel();
    assert_eq!(running.said("bye").await, "");
    let (verdict, _) = running.ended().await;
    assert_eq!(verdict.outcome, Outcome::Warning);
    assert!(!lives(child));
}

#[tokio::test]
async fn who_does_not_listen_is_killed_after_the_grace() {
    let script = "trap '' TERM; echo pid $$; while :; do sleep 1000; done";
    let mut running = start(shell(script));
    let pid = running.pid("pid ").await;
    let asked = Instant::now();
    running.cancel.cancel();
    let (verdict, _) = running.ended().await;
    assert!(asked.elapsed() >= switchboard::service::jobs::guard::GRACE);
    assert_eq!(
        verdict.message.as_deref(),
        Some("killed by signal 9 (SIGKILL): pid ".to_owned() + &pid.to_string()).as_deref()
    );
    assert!(!lives(pid));
}

#[tokio::test]
async fn a_stopped_process_is_ended_too() {
    let mut running = start(shell("sh -c 'echo pid $$; kill -STOP $$' & wait"));
    let pid = running.pid("pid ").await;
    running.cancel.cancel();
    running.ended().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn a_run_that_is_given_up_is_ended_by_its_guard() {
    let mut running = start(shell("echo pid $$; setsid sleep 1000 & echo child $!; wait"));
    let (pid, child) = (running.pid("pid ").await, running.pid("child ").await);
    running.verdict.abort();
    dies(pid).await;
    dies(child).await;
}

#[tokio::test]
async fn a_guard_killed_from_outside_is_noticed() {
    let mut running = start(shell("echo guard $PPID; echo pid $$; exec sleep 1000"));
    let (guard, pid) = (running.pid("guard ").await, running.pid("pid ").await);
    rustix::process::kill_process(rustix::process::Pid::from_raw(guard).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let (verdict, _) = running.ended().await;
    assert!(verdict.message.unwrap().contains("its guard process was ended from outside"));
    assert!(!lives(pid), "the node ends what is left");
}

#[tokio::test]
async fn signals_for_everyone_do_not_end_a_guard() {
    let script = "for signal in INT TERM HUP QUIT; do kill -$signal $PPID; done; sleep 0.2; echo still $PPID";
    let (verdict, lines) = run(shell(script)).await;
    assert_eq!(verdict, Verdict::normal(None));
    assert!(lines[0].2.starts_with("still "), "{lines:?}");
}

/// Set for the process that plays a node which is killed.
const NODE: &str = "TEST_NODE_RUNS";

/// Run by the next test in a process of its own, which it kills; alone, it shows that the command ends by itself.
#[tokio::test]
async fn a_node_runs_a_command_until_one_of_them_ends() {
    let script = match std::env::var(NODE) {
        Ok(script) => script,
        Err(_) => "echo pid $$".to_owned(),
    };
    let mut running = start(shell(&script));
    running.said("pid ").await;
    for line in running.lines.borrow().iter() {
        println!("said: {}", line.2);
    }
    assert_eq!(running.ended().await.0, Verdict::normal(None));
}

#[tokio::test]
async fn when_the_node_is_killed_everything_dies() {
    let script = "setsid sleep 1000 & echo child $!; (trap '' TERM HUP PIPE; setsid sleep 1000 & echo orphan $!; ) ; echo pid $$; wait";
    let mut node = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "jobs::a_node_runs_a_command_until_one_of_them_ends"])
        .env(NODE, script)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(node.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((what, pid)) = line.split_once("said: ").and_then(|(_, said)| said.split_once(' ')) {
            pids.push(pid.parse().unwrap());
            if what == "pid" {
                break;
            }
        }
    }
    assert!(pids.len() == 3 && pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    node.kill().unwrap();
    node.wait().unwrap();
    for pid in pids {
        dies(pid).await;
    }
}

#[test]
fn a_guard_started_by_hand_says_what_it_is() {
    let guard = Command::new(host().program).arg("__guard").stdin(Stdio::null()).output().unwrap();
    assert_eq!(guard.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&guard.stderr).contains("not by hand"));
}

/// A server that gives every connection the same answer, or none; it lasts as long as the test.
#[expect(clippy::disallowed_methods, reason = "no node here whose tasks would be counted")]
async fn server(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            if let Some(answer) = answer {
                let mut request = [0; 1024];
                let _ = connection.read(&mut request).await;
                let _ = connection.write_all(answer.as_bytes()).await;
            } else {
                held.push(connection);
            }
        }
    });
    port
}

fn http(url: impl Into<String>, expect: &[u16]) -> Work {
    Work::Http { url: url.into(), expect: expect.to_vec() }
}

#[tokio::test]
async fn answers_are_judged() {
    let ok = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")).await;
    let broken = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 13\r\nconnection: close\r\n\r\nthe disk full";
    let broken = server(Some(broken)).await;
    let (verdict, _) = run(http(format!("http://127.0.0.1:{ok}/readyz"), &[])).await;
    let message = verdict.message.unwrap();
    assert!(
        verdict.outcome == Outcome::Normal && message.starts_with("200 OK in ") && message.ends_with(" ms"),
        "{message}"
    );
    let (verdict, lines) = run(http(format!("http://127.0.0.1:{broken}/"), &[])).await;
    let message = verdict.message.unwrap();
    assert!(verdict.outcome == Outcome::Error && message.contains("expected 200 to 299"), "{message}");
    assert!(texts(&lines).contains(&"the disk full"), "what it says is shown: {lines:?}");
    let (verdict, _) = run(http(format!("http://127.0.0.1:{broken}/"), &[500, 503])).await;
    assert_eq!(verdict.outcome, Outcome::Normal);
    let (verdict, _) = run(http(format!("http://127.0.0.1:{ok}/"), &[401])).await;
    assert!(verdict.message.unwrap().ends_with("expected 401"));
}

#[tokio::test]
async fn the_reasons_for_no_answer_are_told_apart() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let silent = server(None).await;
    let plain = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let round =
        server(Some("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
    let garbage = server(Some("SSH-2.0-OpenSSH\r\n")).await;
    for (url, words) in [
        (format!("http://127.0.0.1:{refused}/?token=secret"), "refused the connection"),
        (format!("http://127.0.0.1:{silent}/?token=secret"), "within 1s"),
        ("http://no-such-name.invalid/?token=secret".to_owned(), "the name no-such-name.invalid can't be found"),
        (format!("https://127.0.0.1:{plain}/?token=secret"), "no secure connection to"),
        (format!("http://127.0.0.1:{round}/?token=secret"), "redirects more than 5 times"),
        (format!("http://127.0.0.1:{garbage}/?token=secret"), "no answer from"),
    ] {
        let mut job = job(http(&*url, &[]));
        job.timeout = if words.starts_with("within") { Duration::from_secs(1) } else { DEADLINE };
        let dispatcher: Arc<dyn Dispatcher> = dispatchers(&[job], &host()).remove(0);
        let run = Run::alone("test", CancellationToken::new(), |_, _, _| {}, |_| {});
        let verdict = tokio::time::timeout(DEADLINE, dispatcher.run_once(&run)).await.expect("in time");
        let message = verdict.message.unwrap();
        assert!(verdict.outcome == Outcome::Error && message.contains(words), "{url}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

/// A TLS server whose certificate nobody vouches for; it answers one connection.
fn self_signed_server() -> u16 {
    use rustls::pki_types::pem::PemObject as _;
    let certificate =
        rustls::pki_types::CertificateDer::from_pem_slice(include_bytes!("../fixtures/keys/self-signed.crt"));
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/keys/self-signed.key"));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap()], key.unwrap())
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // fails, for the other end does not trust us
        while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
    });
    port
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_named_as_the_reason() {
    let port = self_signed_server();
    let (verdict, _) = run(http(format!("https://127.0.0.1:{port}/"), &[])).await;
    let message = verdict.message.unwrap();
    assert!(message.starts_with(&format!("the certificate of 127.0.0.1:{port} is not valid: ")), "{message}");
}

#[tokio::test]
async fn a_check_is_cancelled_at_once() {
    let silent = server(None).await;
    let running = start(http(format!("http://127.0.0.1:{silent}/"), &[]));
    running.cancel.cancel();
    assert_eq!(running.ended().await.0.outcome, Outcome::Error);
}

#[tokio::test]
async fn the_example_file_holds_five_jobs_that_do_what_they_say() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/switchboard.toml");
    let config = switchboard::config::file::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let work = |name: &str| config.jobs.iter().find(|job| job.name == name).unwrap().work.clone();
    assert_eq!(config.jobs.len(), 5);
    assert!(matches!(work("ready-check"), Work::Http { url, .. } if url == "http://127.0.0.1:8080/readyz"));
    let Work::Command { argv, .. } = work("backup") else { panic!("a command") };
    assert_eq!(argv[..2], ["switchboard", "backup"]);
    let (verdict, lines) = run(work("disk-space")).await;
    assert_eq!(verdict, Verdict::normal(None));
    assert!(lines[0].2.contains("Use%"), "{lines:?}");
    let (verdict, _) = run(work("nightly-import")).await;
    assert_eq!(verdict, Verdict::error("exit code 2: nightly-import: orders.csv: no such file"));
    // the long one is only begun
    let mut long = start(work("reindex"));
    long.said("indexed part 1 of ").await;
    assert_eq!(long.progress.lock().unwrap()[0].done, 0);
    long.cancel.cancel();
    long.ended().await;
}

#[tokio::test]
async fn the_word_switchboard_is_this_program() {
    let (verdict, _) = run(command(&["switchboard", "__guard"])).await;
    assert!(verdict.message.unwrap().starts_with("exit code 64"), "ours, though it is not on the path");
}
