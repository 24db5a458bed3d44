//! Books kept while something is broken: every run that was asked for and what came of it, every line that was written and what a
//! viewer saw of it. What does not add up fails the test; what does is a row of the table in `docs/reliability.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use switchboard::base::shutdown::Shutdown;
use tokio::task::JoinHandle;

use crate::support::node::Node;
use crate::support::robot::{Robot, execution_id};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, percentile, so, within};
use crate::support::witness::{Seen, Witness};

/// Whoever asks is answered within this, whatever is broken: the store waits 5 s for its turn and 5 s for a connection.
pub(crate) const ANSWERED: Duration = Duration::from_secs(12);

/// What a node may hold in all, whatever is broken: unoptimised, with the ring full and everything that waits.
const MOST_MEMORY: u64 = 128 << 20;

/// After a fault everything that was asked for is done within this.
const QUIET: Duration = Duration::from_mins(1);

/// What came of a run that was asked for.
enum Answer {
    Taken(u64),
    Refused(u16, String),
    /// Nobody answered.
    Silence,
}

struct Asked {
    key: String,
    answer: Answer,
}

/// Asks for runs of `mark`, one after the other, each with a key of its own; what is not answered is asked again at the next node.
struct Asker {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(Vec<Asked>, Duration)>,
}

impl Asker {
    fn start(robots: Vec<Robot>, pause: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let task = Shutdown::new().spawn("asker", async move {
            let (mut all, mut slowest) = (Vec::new(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let key = format!("books-{}", all.len());
                let began = Instant::now();
                let mut answer = Answer::Silence;
                for robot in robots.iter().cycle() {
                    let asked = Instant::now();
                    if let Some((status, body)) = robot.try_run("mark", &key).await {
                        slowest = slowest.max(asked.elapsed());
                        answer = match status {
                            200..300 => Answer::Taken(execution_id(&body)),
                            _ => Answer::Refused(status, body["error"]["message"].as_str().unwrap_or_default().into()),
                        };
                        break;
                    }
                    if began.elapsed() > PATIENCE || stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                all.push(Asked { key, answer });
                tokio::time::sleep(pause).await;
            }
            (all, slowest)
        });
        Self { stop, task }
    }
}

/// The books of one fault.
pub(crate) struct Books {
    fault: &'static str,
    marks: PathBuf,
    written: PathBuf,
    asker: Asker,
    witness: Witness,
    recoveries: Vec<i64>,
    memory: u64,
}

impl Books {
    /// Begins to ask at these nodes (the first that answers), to write lines, and to watch. The configuration has the jobs `mark` and
    /// `endless_writer`.
    pub(crate) async fn open(fault: &'static str, stage: &Stage, robots: &[Robot]) -> Self {
        let witness = Witness::start(robots.to_vec());
        witness.until("a first line", |seen| seen.received() > 0).await;
        let asker = Asker::start(robots.to_vec(), Duration::from_millis(80));
        let (marks, written) = (stage.path("marks"), stage.path("books"));
        Self { fault, marks, written, asker, witness, recoveries: Vec::new(), memory: 0 }
    }

    /// Notes how long it took until all was well again.
    pub(crate) fn recovered(&mut self, took: Duration) {
        self.recoveries.push(i64::try_from(took.as_millis()).unwrap());
    }

    /// Notes the memory that these hold now.
    pub(crate) fn weigh(&mut self, nodes: &[&Node]) {
        self.memory = nodes.iter().map(|node| node.memory()).fold(self.memory, u64::max);
    }

    /// The most memory that was noted.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// What the viewer saw until now.
    pub(crate) fn seen(&self) -> Seen {
        self.witness.seen()
    }

    /// Waits until the viewer has seen a line that was written after this call.
    pub(crate) async fn until_new_lines(&self) {
        let before = self.witness.seen().received();
        self.witness.until("a new line", |seen| seen.received() > before).await;
    }

    /// Ends asking and writing, waits until all is quiet, and checks that everything adds up; gives the refusals' words.
    pub(crate) async fn close(self, robot: &Robot) -> Closed {
        self.asker.stop.store(true, Ordering::Relaxed);
        let (asked, slowest) = self.asker.task.await.unwrap();
        assert!(slowest <= ANSWERED, "{}: somebody was answered after {slowest:?}", self.fault);
        assert!(self.memory <= MOST_MEMORY, "{}: a node held {} MiB", self.fault, self.memory >> 20);
        end_writer(robot).await;
        let runs = robot.every("/api/executions?dispatcher=writer", "executions").await;
        let written: Vec<_> = runs.iter().filter_map(|run| Written::read(&self.written, run)).collect();
        let (lines, seen, sockets) = Lines::seen_by(self.fault, &written, self.witness).await;

        let mut commands = Commands::default();
        for asked in &asked {
            commands.settle(robot, asked).await;
        }
        commands.check(self.fault, robot, &self.marks).await;
        let closed = Closed {
            fault: self.fault,
            commands,
            lines,
            written,
            seen,
            recoveries: self.recoveries,
            memory: self.memory,
            slowest,
            sockets,
        };
        closed.write(closed.fault, &closed.seen);
        closed
    }
}

async fn end_writer(robot: &Robot) {
    let quiet = async || {
        let (status, _) = robot.try_ask(reqwest::Method::POST, "/api/dispatchers/writer:cancel", None).await?;
        let last = robot.executions("writer").await;
        so(status == 200 && last.iter().all(|run| run["outcome"].is_string()))
    };
    within(QUIET, "the end of the writer", quiet).await;
}

/// Books that are closed.
pub(crate) struct Closed {
    fault: &'static str,
    pub(crate) commands: Commands,
    pub(crate) lines: Lines,
    written: Vec<Written>,
    pub(crate) seen: Seen,
    recoveries: Vec<i64>,
    memory: u64,
    slowest: Duration,
    sockets: u64,
}

/// What was asked for, and what came of it.
#[derive(Default)]
pub(crate) struct Commands {
    ids: BTreeSet<u64>,
    pub(crate) taken: u64,
    /// Status and words, each once.
    pub(crate) refusals: BTreeSet<(u16, String)>,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) abandoned: u64,
}

impl Commands {
    /// Asks with the same key once more: what was taken is the same execution, what was refused is not there.
    async fn settle(&mut self, robot: &Robot, asked: &Asked) {
        let said = Mutex::new(None);
        let ask = async || {
            let answer = robot.try_run("mark", &asked.key).await;
            said.lock().unwrap().clone_from(&answer);
            answer.filter(|(status, _)| *status == 200)
        };
        let taken = tokio::time::timeout(QUIET, within(QUIET * 2, "an answer to what was asked before", ask)).await;
        let Ok(((_, again), _)) = taken else { panic!("{} is not taken: {:?}", asked.key, said.lock().unwrap()) };
        let (id, new) = (execution_id(&again), again["new"] == true);
        match &asked.answer {
            Answer::Taken(taken) => {
                assert_eq!((*taken, false), (id, new), "{} was taken as another execution", asked.key);
                self.taken += 1;
            }
            Answer::Refused(status, words) => {
                assert!(!words.is_empty(), "a refusal with {status} and without a word");
                assert!(new || !words.contains("nothing was changed"), "{}: not so: {words}", asked.key);
                self.refused += 1;
                self.refusals.insert((*status, words.clone()));
            }
            Answer::Silence => self.unanswered += 1,
        }
        assert!(self.ids.insert(id), "two commands became the same execution {id}");
    }

    /// Each is one execution, with one row of the audit, that ran once.
    async fn check(&mut self, fault: &str, robot: &Robot, marks: &Path) {
        let ended = async || {
            let runs = robot.every("/api/executions?dispatcher=mark", "executions").await;
            runs.iter().all(|run| run["outcome"].is_string()).then_some(runs)
        };
        let (runs, _) = within(QUIET, "the end of every run", ended).await;
        let ids: BTreeSet<u64> = runs.iter().map(execution_id).collect();
        assert_eq!((runs.len(), &ids), (self.ids.len(), &self.ids), "{fault}: executions that nobody asked for");
        let mut ran = BTreeMap::<u64, u32>::new();
        for line in std::fs::read_to_string(marks).unwrap_or_default().lines() {
            *ran.entry(line.parse().unwrap()).or_default() += 1;
        }
        for run in &runs {
            let times = ran.get(&execution_id(run)).copied().unwrap_or(0);
            let abandoned = run["outcome"] == "abandoned";
            self.abandoned += u64::from(abandoned);
            assert!(times == 1 || (abandoned && times == 0), "{fault}: it ran {times} times: {run}");
            assert!(run["outcome"] == "normal" || abandoned, "{fault}: {run}");
        }
        let audit = robot.every("/api/audit?action=dispatcher:run&subject=mark", "entries").await;
        let mut rows = BTreeMap::<u64, u32>::new();
        for entry in audit {
            let result = entry["result"].as_str().unwrap_or_default();
            if let Some(id) = result.strip_prefix("execution ").and_then(|rest| rest.strip_suffix(" queued")) {
                *rows.entry(id.parse().unwrap()).or_default() += 1;
            }
        }
        let once: BTreeMap<u64, u32> = ids.into_iter().map(|id| (id, 1)).collect();
        assert_eq!(rows, once, "{fault}: each has one row in the audit");
    }
}

/// What was written, and what a viewer did not get of it.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    pub(crate) written: u64,
    /// Of runs whose node was killed: what was on its way.
    pub(crate) lost_with_a_node: u64,
    missing: u64,
}

impl Lines {
    /// Reads what each run wrote by its own book, waits until the viewer has its last line, if it is to come, and checks.
    async fn seen_by(fault: &str, written: &[Written], witness: Witness) -> (Self, Seen, u64) {
        let mut lines = Self::default();
        for Written { id, lines: last, killed } in written {
            if !killed {
                let complete = |seen: &Seen| seen.last_of(*id) >= *last || seen.is_beyond_gap_after(*id);
                witness.until(&format!("line {last} of execution {id}"), complete).await;
            }
            let seen = witness.seen();
            let tail = last.saturating_sub(seen.last_of(*id));
            lines.written += last;
            lines.missing += seen.holes_of(*id) + if *killed { 0 } else { tail };
            lines.lost_with_a_node += if *killed { tail } else { 0 };
        }
        let (seen, sockets) = witness.end().await;
        lines.check(fault, &seen);
        (lines, seen, sockets)
    }

    /// Nothing is missing that was not told, and nothing came twice.
    fn check(&self, fault: &str, seen: &Seen) {
        assert_eq!(seen.untold(), &[] as &[String], "{fault}: gaps that nobody told");
        assert_eq!(seen.repeated(), 0, "{fault}: lines came twice");
        let (missing, told) = (self.missing, seen.in_gaps());
        assert!(missing <= told, "{fault}: {missing} lines are missing, {told} are in gaps that were told");
        assert!(self.written > 0, "{fault}: nothing was written");
    }
}

/// What a run of the writer wrote.
struct Written {
    id: u64,
    lines: u64,
    /// Its node was killed, and with it what was on its way.
    killed: bool,
}

impl Written {
    fn read(books: &Path, run: &Value) -> Option<Self> {
        let id = execution_id(run);
        let book = std::fs::read_to_string(books.join(id.to_string())).ok()?;
        // a writer that is killed may be in the middle of a number
        let (whole, _) = book.rsplit_once('\n')?;
        let lines = whole.lines().last()?.parse().unwrap();
        Some(Self { id, lines, killed: run["outcome"] == "abandoned" })
    }
}

impl Closed {
    /// What else was seen adds up, too; gives it.
    pub(crate) async fn check_also(&self, witness: Witness) -> Seen {
        Lines::seen_by(self.fault, &self.written, witness).await.1
    }

    /// Tells, and hands the row to whoever renders the table.
    pub(crate) fn write(&self, fault: &str, seen: &Seen) {
        let form = std::env::var("SOAK_FORM").unwrap_or_else(|_| "short".to_owned());
        let Commands { taken, refused, unanswered, abandoned, .. } = &self.commands;
        let executions = format!("{taken}{}", note(*abandoned, "abandoned"));
        let refusals = format!("{refused}{}", note(*unanswered, "unanswered"));
        let Lines { written, lost_with_a_node, .. } = &self.lines;
        let (received, gaps, repeated) = (seen.received(), seen.in_gaps(), seen.repeated());
        let mut times = self.recoveries.clone();
        let recovery = match times.len() {
            0 => "–".to_owned(),
            1 => seconds(times[0]),
            count => {
                format!(
                    "{} / {} ({count} times)",
                    seconds(percentile(&mut times, 50)),
                    seconds(percentile(&mut times, 100))
                )
            }
        };
        let mut row =
            format!("| {fault} | {form} | {taken} | {executions} | {refusals} | {written} | {received} | {gaps} |");
        let slowest = seconds(i64::try_from(self.slowest.as_millis()).unwrap());
        write!(row, " {repeated} | {lost_with_a_node} | {recovery} | {slowest} | {} MiB |", self.memory >> 20).unwrap();
        println!("{row}\n({} sockets; refusals: {:?})", self.sockets, self.commands.refusals);
        if let Some(file) = std::env::var_os("SOAK_ROWS") {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
            writeln!(file, "{row}").unwrap();
        }
    }
}

fn note(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!(" ({count} {what})") }
}

fn seconds(milliseconds: i64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// How much a soak does, from its variable.
pub(crate) fn amount(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
