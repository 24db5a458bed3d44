//! A peer to compare with: `nats-server` with TLS on the loopback, and as much of its protocol as publishing and reading need.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What it proves itself with, and by whom that is signed.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/first.crt");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/first.key");
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/first-authority.crt");

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

type Stream = TlsStream<TcpStream>;

/// A server of this benchmark's own. Dropped: ended.
pub(crate) struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts it; none if the program is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        let (certificate, key, place) = (CERTIFICATE, KEY, folder.path().to_str().unwrap());
        // a reader that lags is not cut off
        let text = format!(
            "host: 127.0.0.1\nport: -1\nports_file_dir: {place:?}\nping_interval: \"1h\"\nmax_pending: 2GB\nwrite_deadline: \"1m\"\n\
             tls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n"
        );
        std::fs::write(&config, text).unwrap();
        let path = format!("{}:/usr/sbin:/usr/local/bin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(&config).env("PATH", path).stdin(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            process => process.unwrap(),
        };
        let ports = folder.path().join(format!("nats-server_{}.ports", process.id()));
        let mut server = Self { process, port: 0, _folder: folder };
        let began = Instant::now();
        loop {
            // {"nats":["tls://127.0.0.1:33669"]}
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let port = text.rsplit(':').next().and_then(|end| end.split('"').next()?.parse().ok());
            if let Some(port) = port {
                server.port = port;
                return Some(server);
            }
            assert!(server.process.try_wait().unwrap().is_none(), "nats-server ended by itself");
            assert!(began.elapsed() < PATIENCE, "nats-server does not say its port");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who publishes and who reads, each over a connection of its own.
    pub(crate) async fn pair(&self) -> (Publisher, Subscriber) {
        let (_, publisher) = tokio::io::split(self.connect("").await);
        let (subscriber, _) = tokio::io::split(self.connect("SUB bench 1\r\n").await);
        (Publisher(publisher), Subscriber { stream: subscriber, bytes: Vec::new(), room: vec![0; 64 << 10] })
    }

    async fn connect(&self, then: &str) -> Stream {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(AUTHORITY).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        // what it says of itself comes before the handshake
        while socket.read_u8().await.unwrap() != b'\n' {}
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(config).connect(name, socket).await.unwrap();
        let hello = format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false}}\r\n{then}PING\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"PONG\r\n", "{}", String::from_utf8_lossy(&answer));
        stream
    }
}

/// Publishes.
pub(crate) struct Publisher(WriteHalf<Stream>);

impl Publisher {
    /// These messages as they go over the wire.
    pub(crate) fn encoded(message: &[u8], count: usize) -> Vec<u8> {
        let head = format!("PUB bench {}\r\n", message.len());
        [head.as_bytes(), message, b"\r\n"].concat().repeat(count)
    }

    /// Writes encoded messages at once.
    pub(crate) async fn publish(&mut self, encoded: &[u8]) {
        self.0.write_all(encoded).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

/// Reads what is published.
pub(crate) struct Subscriber {
    stream: ReadHalf<Stream>,
    bytes: Vec<u8>,
    room: Vec<u8>,
}

impl Subscriber {
    /// Waits for messages, and shows each of those that have come; how many they were.
    pub(crate) async fn take(&mut self, mut each: impl FnMut(&[u8]) + Send) -> u64 {
        let read = self.stream.read(&mut self.room).await.unwrap();
        assert_ne!(read, 0, "nats-server ended the connection");
        self.bytes.extend_from_slice(&self.room[..read]);
        let (mut at, mut count) = (0, 0);
        while let Some(end) = self.bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&self.bytes[at..at + end]).unwrap().trim_end();
            let body = at + end + 1;
            match line.strip_prefix("MSG ").and_then(|rest| rest.rsplit(' ').next()?.parse::<usize>().ok()) {
                Some(length) if self.bytes.len() >= body + length + 2 => {
                    each(&self.bytes[body..body + length]);
                    (at, count) = (body + length + 2, count + 1);
                }
                Some(_) => break,
                None => {
                    assert!(matches!(line, "PING" | "PONG"), "nats-server says {line}");
                    at = body;
                }
            }
        }
        self.bytes.drain(..at);
        count
    }
}
