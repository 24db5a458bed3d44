//! The lines a process writes, kept as they come.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::wait::within;

/// What a process wrote on one of its outputs, until now.
#[derive(Clone, Default)]
pub(crate) struct Output {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Output {
    /// Reads `from` in a thread until its end.
    pub(crate) fn read(from: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let output = Self::default();
        let lines = Arc::clone(&output.lines);
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { return };
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        (output, thread)
    }

    /// The lines until now.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// All of it as one text.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a line that holds `part`, and gives it.
    pub(crate) async fn line_with(&self, part: &str, limit: Duration) -> String {
        let look = async || self.lines().into_iter().find(|line| line.contains(part));
        within(limit, &format!("a line with `{part}`"), look).await.0
    }
}
