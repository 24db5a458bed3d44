//! A viewer who follows the log through whatever happens, on whatever node answers, and counts every number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use switchboard::base::shutdown::Shutdown;
use tokio::task::JoinHandle;

use crate::support::robot::Robot;
use crate::support::wait::{so, within};

/// A page that hears nothing for so long takes the connection for dead: the node says something every 2 s.
const SILENCE: Duration = Duration::from_secs(6);

/// How long the viewer may take for what is to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a viewer saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Where the next socket goes on.
    cursor: Option<String>,
    /// The life and the number that came last.
    last: Option<(String, u64)>,
    /// By run: the number of the last of its lines, how many came, and how many before the last did not.
    runs: BTreeMap<u64, Run>,
    in_gaps: u64,
    /// How many gaps were told when a run's last line came.
    gaps: u64,
    repeated: u64,
    untold: Vec<String>,
    restarts: u64,
}

#[derive(Clone, Copy, Default)]
struct Run {
    last: u64,
    came: u64,
    holes: u64,
    gaps: u64,
}

impl Seen {
    /// Takes one message in.
    pub(crate) fn take(&mut self, frame: &Value) {
        let epoch = frame["epoch"].as_str().unwrap_or_default();
        match frame["t"].as_str() {
            Some("log") => {
                for row in frame["rows"].as_array().expect("rows") {
                    let number = row[0].as_u64().expect("a number");
                    if self.follows(epoch, number, number) {
                        self.count(row);
                    }
                }
                let next = frame["next"].as_u64().expect("next");
                self.cursor = Some(format!("{epoch}:{next}"));
            }
            Some("gap") => {
                let (from, to) = (frame["from"].as_u64().unwrap(), frame["to"].as_u64().unwrap());
                self.follows(epoch, from, to);
                self.in_gaps += to + 1 - from;
                self.gaps += 1;
                self.cursor = Some(format!("{epoch}:{to}"));
            }
            Some("restart") => {
                self.restarts += 1;
                self.last = Some((epoch.to_owned(), 0));
                self.cursor = Some(format!("{epoch}:0"));
            }
            _ => {}
        }
    }

    /// Whether these numbers are the next ones; notes what is wrong otherwise.
    fn follows(&mut self, epoch: &str, from: u64, to: u64) -> bool {
        let before = self.last.replace((epoch.to_owned(), to));
        let Some((life, last)) = before else { return true };
        if life != epoch {
            self.untold.push(format!("after {life}:{last} comes {epoch}:{from} without a word"));
        } else if from <= last {
            self.repeated += 1;
            self.last = Some((life, last.max(to)));
            return false;
        } else if from > last + 1 {
            self.untold.push(format!("after {life}:{last} comes {from}"));
        }
        true
    }

    /// Counts a line of the writer.
    fn count(&mut self, row: &Value) {
        let text = row[6].as_str().expect("a text");
        let number = text.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        let (Some(number), Some(id), true) = (number, row[4].as_u64(), row[3] == "writer") else { return };
        let gaps = self.gaps;
        let run = self.runs.entry(id).or_insert_with(|| Run { last: number - 1, ..Run::default() });
        if number <= run.last {
            self.repeated += 1;
            return;
        }
        *run = Run { last: number, came: run.came + 1, holes: run.holes + number - run.last - 1, gaps };
    }

    /// How many lines of the writer came.
    pub(crate) fn received(&self) -> u64 {
        self.runs.values().map(|run| run.came).sum()
    }

    /// How many lines, of whatever source, are in gaps that were told.
    pub(crate) fn in_gaps(&self) -> u64 {
        self.in_gaps
    }

    /// How many came twice.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// What is missing without a word.
    pub(crate) fn untold(&self) -> &[String] {
        &self.untold
    }

    /// How many new lives it was told of.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// The number of a run's last line.
    pub(crate) fn last_of(&self, run: u64) -> u64 {
        self.runs.get(&run).map_or(0, |run| run.last)
    }

    /// How many lines of a run did not come, before its last one.
    pub(crate) fn holes_of(&self, run: u64) -> u64 {
        self.runs.get(&run).map_or(0, |run| run.holes)
    }

    /// Whether a gap was told after the last line of a run: it may hold the rest.
    pub(crate) fn is_beyond_gap_after(&self, run: u64) -> bool {
        self.runs.get(&run).is_none_or(|run| self.gaps > run.gaps)
    }
}

/// A viewer who goes on.
pub(crate) struct Witness {
    stop: Shutdown,
    /// How long it looks at a message before it reads the next one, in ms.
    pause: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<u64>,
}

impl Witness {
    /// Follows the log at the first of these that answers, and at the next when it does no more.
    pub(crate) fn start(robots: Vec<Robot>) -> Self {
        let (stop, pause) = (Shutdown::new(), Arc::<AtomicU64>::default());
        let (seen, sockets) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicU64>::default());
        let following = follow(robots, Arc::clone(&seen), Arc::clone(&pause), Arc::clone(&sockets));
        let stopping = stop.clone();
        let task = stop.spawn("witness", async move {
            tokio::select! {
                () = following => {}
                () = stopping.stopping() => {}
            }
            sockets.load(Ordering::Relaxed)
        });
        Self { stop, pause, seen, task }
    }

    /// From now on it reads nothing, with its socket open; or reads again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.pause.store(if stalled { u64::MAX } else { 0 }, Ordering::Relaxed);
    }

    /// From now on it reads one message in so long.
    pub(crate) fn slow_down(&self, pause: Duration) {
        self.pause.store(u64::try_from(pause.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// What it saw until now.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has seen something.
    pub(crate) async fn until(&self, what: &str, look: impl Fn(&Seen) -> bool) {
        within(PATIENCE, what, async || so(look(&self.seen.lock().unwrap()))).await;
    }

    /// Ends it; gives what it saw, and over how many sockets.
    pub(crate) async fn end(self) -> (Seen, u64) {
        self.stop.stop();
        let sockets = self.task.await.unwrap();
        let seen = self.seen.lock().unwrap().clone();
        (seen, sockets)
    }
}

async fn follow(robots: Vec<Robot>, seen: Arc<Mutex<Seen>>, pause: Arc<AtomicU64>, sockets: Arc<AtomicU64>) {
    for robot in robots.iter().cycle() {
        let Some(mut socket) = robot.socket().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        sockets.fetch_add(1, Ordering::Relaxed);
        let since = seen.lock().unwrap().cursor.clone();
        if !socket.try_watch_log(since.as_deref()).await {
            continue;
        }
        while let Some(frame) = socket.next_within(SILENCE).await {
            seen.lock().unwrap().take(&frame);
            let taken = Instant::now();
            while taken.elapsed() < Duration::from_millis(pause.load(Ordering::Relaxed)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[test]
fn what_is_missing_without_a_word_and_what_comes_twice_is_counted() {
    use serde_json::json;
    let log = |epoch: &str, numbers: &[u64]| {
        let rows: Vec<_> =
            numbers.iter().map(|n| json!([n, 0, 2, "writer", 7, null, format!("line {n} of 9 at 0")])).collect();
        json!({ "t": "log", "epoch": epoch, "next": numbers.last(), "rows": rows })
    };
    let mut seen = Seen::default();
    seen.take(&log("a", &[1, 2]));
    seen.take(&json!({ "t": "gap", "epoch": "a", "from": 3, "to": 4 }));
    seen.take(&log("a", &[5]));
    assert_eq!((seen.received(), seen.in_gaps(), seen.repeated(), seen.untold().len()), (3, 2, 0, 0));
    assert_eq!((seen.holes_of(7), seen.last_of(7)), (2, 5));
    seen.take(&log("a", &[5, 7]));
    assert_eq!((seen.repeated(), seen.untold().len()), (1, 1));
    seen.take(&log("b", &[1]));
    assert_eq!(seen.untold().len(), 2, "another life without a word");
    seen.take(&json!({ "t": "restart", "epoch": "c" }));
    seen.take(&log("c", &[2]));
    assert_eq!(seen.untold().len(), 3, "a new life begins with line 1");
    assert_eq!(seen.cursor.as_deref(), Some("c:2"));
}
