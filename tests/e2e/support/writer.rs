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

    /// Writes the file.
    pub(crate) fn save(self, stage: &Stage) -> PathBuf {
        stage.write("switchboard.toml", &self.text)
    }
}
