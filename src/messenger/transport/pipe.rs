//! Frames over a Unix domain socket that only its owner can open.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use crate::messenger::transport::{Link, Listener, Transport, stream};

/// Connections the system holds until they are accepted.
const BACKLOG: i32 = 128;

/// Listens and connects at one path.
#[derive(Clone, Debug)]
pub struct Pipe {
    path: PathBuf,
}

impl Pipe {
    /// At this path; a socket's path has at most 107 bytes.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Transport for Pipe {
    async fn listen(&self) -> io::Result<Box<dyn Listener>> {
        make_way(&self.path).await?;
        let listener = bind(&self.path)?;
        let file = fs::symlink_metadata(&self.path)?;
        Ok(Box::new(Bound {
            listener: UnixListener::from_std(listener)?,
            file: SocketFile { path: self.path.clone(), device: file.dev(), inode: file.ino() },
        }))
    }

    async fn connect(&self) -> io::Result<Link> {
        UnixStream::connect(&self.path).await.map(link)
    }
}

fn link(socket: UnixStream) -> Link {
    let (reader, writer) = socket.into_split();
    stream::link(reader, writer)
}

/// Removes a socket file that nobody listens at any more. Anything else at the path is left alone and an error.
async fn make_way(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let in_use = |what| io::Error::new(io::ErrorKind::AddrInUse, format!("{what} at {}", path.display()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Err(in_use("a file that is no socket stands")),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // one whose queue is full lives too
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(in_use("another process listens")),
    }
}

/// Binds, restricts to the owner, and only then listens: nobody else can connect in between.
fn bind(path: &Path) -> io::Result<unix::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path).map_err(|_| {
        let text = format!("{} is too long for a socket's path, which has at most 107 bytes", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    rustix::net::bind(&socket, &address)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

struct Bound {
    listener: UnixListener,
    /// Removed after the listener is closed, by the order of the fields.
    #[expect(dead_code, reason = "held for its drop")]
    file: SocketFile,
}

#[async_trait]
impl Listener for Bound {
    async fn accept(&mut self) -> io::Result<Link> {
        self.listener.accept().await.map(|(socket, _)| link(socket))
    }
}

/// The socket's file, removed when dropped, unless another took its place.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode) {
            // nothing is lost if it stays: the next one to listen finds it stale
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn only_its_owner_can_open_it_and_nothing_stays_behind() {
        let (_directory, path) = place();
        let listener = Pipe::new(path.clone()).listen().await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_no_obstacle() {
        let (_directory, path) = place();
        drop(unix::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let pipe = Pipe::new(path);
        let mut listener = pipe.listen().await.unwrap();
        let (ours, theirs) = tokio::join!(pipe.connect(), listener.accept());
        assert!(ours.is_ok() && theirs.is_ok());
    }

    #[tokio::test]
    async fn a_living_listener_is_not_pushed_aside() {
        let (_directory, path) = place();
        let _first = Pipe::new(path.clone()).listen().await.unwrap();
        let second = Pipe::new(path.clone()).listen().await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert!(second.to_string().contains(&path.display().to_string()), "{second}");
        assert!(Pipe::new(path).connect().await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let (_directory, path) = place();
        fs::write(&path, "precious").unwrap();
        assert_eq!(Pipe::new(path.clone()).listen().await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_file_of_another_is_not_removed() {
        let (_directory, path) = place();
        let old = Pipe::new(path.clone()).listen().await.unwrap();
        fs::remove_file(&path).unwrap();
        let _new = Pipe::new(path.clone()).listen().await.unwrap();
        drop(old);
        assert!(Pipe::new(path).connect().await.is_ok());
    }

    #[tokio::test]
    async fn a_path_too_long_says_so() {
        let (directory, _) = place();
        let path = directory.path().join("x".repeat(120));
        assert!(Pipe::new(path).listen().await.err().unwrap().to_string().contains("107 bytes"));
    }
}
