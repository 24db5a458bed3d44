//! Jobs for tests: a configuration file, and a program that writes numbered lines at a steady pace.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::stage::Stage;

/// Writes `line N of TOTAL at MICROSECONDS`, RATE lines a second, by the clock: a line that is late does not delay the next.
const WRITER: &str = include_str!("../../fixtures/e2e/writer.sh");

/// A configuration file in the making.
#[derive(Default)]
pub(crate) struct Jobs {
    text: String,
}

impl Jobs {
    /// A command that runs only when told.
    pub(crate) fn command(self, name: &str, argv: &[&str]) -> Self {
        self.command_with(name, argv, "")
    }

    /// A command with further keys.
    pub(crate) fn command_with(mut self, name: &str, argv: &[&str], keys: &str) -> Self {
        let schedule = if keys.contains("schedule") { "" } else { "schedule = \"manual\"\n" };
        let argv: Vec<_> = argv.iter().map(|word| toml::Value::from(*word).to_string()).collect();
        write!(self.text, "[[job]]\nname = \"{name}\"\ncommand = [{}]\n{schedule}{keys}\n\n", argv.join(", ")).unwrap();
        self
    }

    /// A line of shell that runs only when told.
    pub(crate) fn shell(self, name: &str, line: &str) -> Self {
        self.command(name, &["bash", "-c", line])
    }

    /// The job `writer`: this many numbered lines at this pace.
    pub(crate) fn writer(self, stage: &Stage, lines: u64, per_second: u64) -> Self {
        let script = stage.write("writer.sh", WRITER);
        self.command("writer", &["bash", script.to_str().unwrap(), &lines.to_string(), &per_second.to_string()])
    }

    /// The job `writer`, without an end: it keeps a book of its own in the folder `books`, one for each run, and its lines are so much
    /// longer.
    pub(crate) fn endless_writer(self, stage: &Stage, per_second: u64, longer: usize) -> Self {
        let script = stage.write("writer.sh", WRITER);
        let books = stage.path("books");
        std::fs::create_dir_all(&books).unwrap();
        let (script, books) = (script.display(), books.display());
        let line = format!("exec bash '{script}' 1000000000 {per_second} '{books}'/$SWITCHBOARD_EXECUTION {longer}");
        self.command_with("writer", &["bash", "-c", &line], "run_at_start = true")
    }

    /// The job `mark`: each of its runs leaves its number in the file `marks`; many may go on at once.
    pub(crate) fn mark(self, stage: &Stage) -> Self {
        let line = format!("echo $SWITCHBOARD_EXECUTION >>'{}'", stage.path("marks").display());
        self.command_with("mark", &["bash", "-c", &line], "concurrency = 10")
    }

    /// Writes the file.
    pub(crate) fn save(self, stage: &Stage) -> PathBuf {
        stage.write("switchboard.toml", &self.text)
    }
}
