//! The living processes that descend from another or belong to a session, as the system lists them in `/proc`.

use std::collections::HashMap;

use rustix::process::Pid;

/// A process that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: Pid,
    /// Its process group.
    pub(crate) group: i32,
}

/// Every living process that descends from `ancestor`, in whatever session or group. If `ancestor` is a sub-reaper, also those
/// whose parents have ended. Nothing where the system has no `/proc`.
pub(crate) fn descendants_of(ancestor: Pid) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<(Pid, Stat)>> = HashMap::new();
    for (pid, stat) in all() {
        children.entry(stat.parent).or_default().push((pid, stat));
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        for (pid, stat) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid.as_raw_nonzero().get());
            if !stat.ended {
                found.push(Process { pid, group: stat.group });
            }
        }
    }
    found
}

/// Every living process of the session with this number. Nothing where the system has no `/proc`.
pub(crate) fn of_session(session: i32) -> Vec<Process> {
    let members = all().filter(|(_, stat)| stat.session == session && !stat.ended);
    members.map(|(pid, stat)| Process { pid, group: stat.group }).collect()
}

/// Every process, also those that wait to be reaped.
fn all() -> impl Iterator<Item = (Pid, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        // it may have ended between being listed and being read
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        Some((pid, read_stat(&String::from_utf8_lossy(&stat))?))
    })
}

/// What the system says about a process.
struct Stat {
    parent: i32,
    group: i32,
    session: i32,
    /// It has ended and waits to be reaped.
    ended: bool,
}

/// Reads `1234 (name) S 1 1234 1234 …`; the name may hold anything, also brackets.
fn read_stat(text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let mut number = || fields.next()?.parse().ok();
    Some(Stat { parent: number()?, group: number()?, session: number()?, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = read_stat("77 (a) Z 1 (b)) S 12 34 56 0").unwrap();
        assert_eq!((stat.parent, stat.group, stat.session, stat.ended), (12, 34, 56, false));
        assert!(read_stat("77 (a) Z 12 34 56").unwrap().ended);
        assert!(read_stat("").is_none() && read_stat("77 (a)").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn children_are_found_and_gone_when_they_have_ended() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let lives = || descendants_of(rustix::process::getpid()).iter().any(|process| process.pid == pid);
        assert!(lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lives());
    }
}
