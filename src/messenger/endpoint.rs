//! Where a peer is: `pipe:/path`, `tcp://host:port` or `memory:name`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::endpoint::{Host, MAX_PATH, Written};

/// The pipe's name in the data directory.
const PIPE_NAME: &str = "switchboard.sock";

/// Where service nodes listen and web nodes dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix domain socket.
    Pipe(PathBuf),
    /// A port of a host, or of every address of the machine that listens.
    Tcp {
        /// Which.
        host: Host,
        /// The port.
        port: u16,
    },
    /// Inside this process, by name: for tests and embedding.
    Memory(String),
}

impl Endpoint {
    /// The endpoint that the setting `Service.MessengerEndpoint` means; empty is the local pipe in `data` (if that path is too
    /// long for a socket, a hashed name in the runtime directory). The text was checked when the setting was saved; one
    /// without a scheme is taken as the path of a pipe.
    ///
    /// The runtime directory is `XDG_RUNTIME_DIR`, else a directory of this user's own in the temporary directory. Both
    /// processes of one data directory must see the same one.
    pub fn from_setting(text: &str, data: &Path) -> Self {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("memory:") {
            return Self::Memory(name.to_owned());
        }
        match Written::parse(text) {
            Ok(Written::LocalPipe) => Self::Pipe(local_pipe(data, &runtime_directory())),
            Ok(Written::Pipe(path)) => Self::Pipe(PathBuf::from(path)),
            Ok(Written::Tcp { host, port }) => Self::Tcp { host, port },
            Err(_) => Self::Pipe(PathBuf::from(text.strip_prefix("pipe:").unwrap_or(text))),
        }
    }

    /// Whether it says where to listen but not whom to dial: `tcp://*:port`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Tcp { host: Host::Any, .. })
    }

    /// The same port of this host; anything but TCP stays as it is.
    #[must_use]
    pub fn with_host(self, host: Host) -> Self {
        match self {
            Self::Tcp { port, .. } => Self::Tcp { host, port },
            other => other,
        }
    }
}

/// The pipe of the data directory: in it, or in `runtime` if the path would be too long. The same for every process,
/// wherever it was started and however it writes the directory's name.
fn local_pipe(data: &Path, runtime: &Path) -> PathBuf {
    let data = data.canonicalize().or_else(|_| std::path::absolute(data)).unwrap_or_else(|_| data.to_owned());
    let inside = data.join(PIPE_NAME);
    if inside.as_os_str().len() <= MAX_PATH {
        return inside;
    }
    let hash = Sha256::digest(data.as_os_str().as_bytes());
    let name = u64::from_be_bytes(std::array::from_fn(|at| hash[at]));
    runtime.join(format!("switchboard-{name:016x}.sock"))
}

fn runtime_directory() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_else(|| {
        let user = rustix::process::geteuid().as_raw();
        std::env::temp_dir().join(format!("switchboard-{user}"))
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(path) => write!(f, "pipe:{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_mean_endpoints() {
        let data = Path::new("/srv/switchboard");
        for (text, expected) in [
            ("", "pipe:/srv/switchboard/switchboard.sock"),
            ("  ", "pipe:/srv/switchboard/switchboard.sock"),
            ("pipe:/run/x.sock", "pipe:/run/x.sock"),
            ("memory:here", "memory:here"),
            ("tcp://Host:33237", "tcp://host:33237"),
            ("tcp://[::]:33237", "tcp://*:33237"),
        ] {
            assert_eq!(Endpoint::from_setting(text, data).to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_becomes_dialable_by_a_host() {
        let everywhere = Endpoint::from_setting("tcp://*:33237", Path::new("/"));
        assert!(everywhere.is_wildcard());
        let dialled = everywhere.with_host(Host::Name("service-1".into()));
        assert_eq!((dialled.is_wildcard(), dialled.to_string().as_str()), (false, "tcp://service-1:33237"));
        let pipe = Endpoint::Pipe("/run/x.sock".into());
        assert_eq!(pipe.clone().with_host(Host::Any), pipe);
    }

    #[test]
    fn a_path_too_long_for_a_socket_becomes_a_hashed_name() {
        let runtime = Path::new("/run/user/7");
        let fits = PathBuf::from("/").join("d".repeat(MAX_PATH - PIPE_NAME.len() - 2));
        assert_eq!(local_pipe(&fits, runtime), fits.join(PIPE_NAME));
        let long = PathBuf::from("/").join("d".repeat(MAX_PATH - PIPE_NAME.len() - 1));
        let pipe = local_pipe(&long, runtime);
        assert!(pipe.starts_with(runtime) && pipe.as_os_str().len() <= MAX_PATH, "{}", pipe.display());
        assert_eq!(pipe, local_pipe(&long, runtime));
        assert_ne!(pipe, local_pipe(&long.join("other"), runtime));
    }

    #[test]
    fn the_same_directory_is_the_same_pipe_however_it_is_written() {
        let data = tempfile::tempdir().unwrap();
        let roundabout = data.path().join("..").join(data.path().file_name().unwrap());
        let runtime = Path::new("/run");
        assert_eq!(local_pipe(&roundabout, runtime), local_pipe(data.path(), runtime));
    }
}
