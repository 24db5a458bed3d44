//! Where a job's program is: beside the job, on the path, or this program itself.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// As the first word of a job's command, this stands for the program that runs the node.
pub const OWN: &str = "switchboard";

/// Where programs are looked for if neither the job nor the node's environment has a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program that can't be started, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No directory of the path has it.
    #[error("the program `{0}` is not on the path ({1})")]
    NotOnPath(String, String),
    /// The file named is not there.
    #[error("there is no program {0}")]
    NoFile(String),
    /// The file may not be run.
    #[error("{0} is not executable; `chmod +x` makes it so")]
    NotExecutable(String),
}

/// Finds the file of a program: a name with a slash is a file (seen from `directory`), any other is looked for on `path`.
///
/// # Errors
/// If there is no such file, or it may not be run.
pub fn find(program: &str, directory: Option<&Path>, path: Option<OsString>) -> Result<PathBuf, Missing> {
    let inside = |file: PathBuf| directory.map_or_else(|| file.clone(), |directory| directory.join(&file));
    if program.contains('/') {
        let file = inside(PathBuf::from(program));
        return match state(&file) {
            State::Runs => Ok(file),
            State::Still => Err(Missing::NotExecutable(file.display().to_string())),
            State::Absent => Err(Missing::NoFile(file.display().to_string())),
        };
    }
    let path = path.unwrap_or_else(|| OsStr::new(DEFAULT_PATH).to_owned());
    let mut still = None;
    for place in std::env::split_paths(&path) {
        let file = inside(place.join(program));
        match state(&file) {
            State::Runs => return Ok(file),
            State::Still => {
                still.get_or_insert(file);
            }
            State::Absent => {}
        }
    }
    Err(match still {
        Some(file) => Missing::NotExecutable(file.display().to_string()),
        None => Missing::NotOnPath(program.to_owned(), path.to_string_lossy().into_owned()),
    })
}

/// Whether a file can be run.
enum State {
    Runs,
    Still,
    Absent,
}

fn state(file: &Path) -> State {
    match std::fs::metadata(file) {
        Ok(facts) if facts.is_file() => match rustix::fs::access(file, rustix::fs::Access::EXEC_OK) {
            Ok(()) => State::Runs,
            Err(_) => State::Still,
        },
        _ => State::Absent,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn programs_are_found_as_the_system_would() {
        let place = tempfile::tempdir().unwrap();
        let put = |name: &str, mode| {
            let file = place.path().join(name);
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let (runs, _) = (put("runs", 0o755), put("still", 0o644));
        let path = || Some(place.path().as_os_str().to_owned());
        assert_eq!(find("runs", None, path()), Ok(runs.clone()));
        assert_eq!(find("./runs", Some(place.path()), None), Ok(place.path().join("./runs")));
        assert_eq!(find("runs", Some(place.path()), Some(".".into())), Ok(place.path().join("./runs")));
        assert!(matches!(find("still", None, path()), Err(Missing::NotExecutable(_))));
        assert!(matches!(find("./still", Some(place.path()), None), Err(Missing::NotExecutable(_))));
        assert!(matches!(find("./absent", Some(place.path()), None), Err(Missing::NoFile(_))));
        assert!(matches!(find("absent", None, path()), Err(Missing::NotOnPath(..))));
        assert!(matches!(find("/", None, None), Err(Missing::NoFile(_))), "a directory is no program");
        assert!(find("sh", None, None).is_ok());
    }
}
