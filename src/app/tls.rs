//! TLS on the web listener: certificate and key from their files, checked as a whole, read anew at SIGHUP.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::certificate::not_after;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::shutdown::Shutdown;
use crate::web::certificate::Certificate;

/// The greatest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those that lead to its authority; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM.
    pub key: PathBuf,
}

impl Files {
    /// Both, or none; one alone is a problem.
    pub fn of(certificate: Option<PathBuf>, key: Option<PathBuf>, problems: &mut Vec<String>) -> Option<Self> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (given, missing) =
                    if certificate.is_some() { ("tls-cert", "tls-key") } else { ("tls-key", "tls-cert") };
                problems.push(format!(
                    "--{given} is given without --{missing} (SWITCHBOARD_{}): a certificate and its key go together; \
                     give both, or none for plain HTTP",
                    missing.replace('-', "_").to_ascii_uppercase()
                ));
                None
            }
        }
    }
}

/// A certificate and key that work.
#[derive(Debug)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    ends_at: Option<Timestamp>,
    /// What the operator should know though it works.
    warnings: Vec<String>,
}

impl Loaded {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// Everything that is wrong with them: which file, and what to do.
    pub fn read(files: &Files, now: Timestamp) -> Result<Self, Vec<String>> {
        let mut warnings = Vec::new();
        let chain = certificates(&files.certificate);
        let key = private_key(&files.key, &mut warnings);
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
        };
        let ends_at = chain.first().and_then(|first| not_after(first));
        if let Some(end) = ends_at.filter(|end| *end <= now) {
            let file = files.certificate.display();
            warnings
                .push(format!("{file}: this certificate ended at {end}; browsers refuse it: renew it, then SIGHUP"));
        }
        let config = config(chain, key).map_err(|error| {
            let (certificate, key) = (files.certificate.display(), files.key.display());
            vec![match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "{key}: this key does not belong to the certificate in {certificate}; \
                     give the key that the certificate was made for (the first certificate in the file counts)"
                ),
                error => format!("{certificate} and {key} can't be used: {error}; give an RSA, ECDSA or Ed25519 pair"),
            }]
        })?;
        Ok(Self { config: Arc::new(config), ends_at, warnings })
    }
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // a session that is taken up again would have to be known to every web node; the handshake is cheap enough
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(file)?.0;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let hint = "a file in PEM is wanted, `-----BEGIN CERTIFICATE-----`, the node's own first, then those between";
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: there is no certificate in it; {hint}", file.display())),
        Err(error) => Err(format!("{}: can't be read as PEM ({error}); {hint}", file.display())),
    }
}

fn private_key(file: &Path, warnings: &mut Vec<String>) -> Result<PrivateKeyDer<'static>, String> {
    let (bytes, mode) = read(file)?;
    if mode & 0o007 != 0 {
        warnings.push(format!("{}: everybody can read this private key; `chmod o-rwx` it", file.display()));
    }
    let hint = "a file in PEM is wanted, `-----BEGIN PRIVATE KEY-----`, without a passphrase";
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => format!("{}: there is no private key in it; {hint}", file.display()),
        _ => format!("{}: can't be read as a private key; {hint}", file.display()),
    })
}

/// What stands in a file, and who may read it.
fn read(file: &Path) -> Result<(Vec<u8>, u32), String> {
    let unread = |error: std::io::Error| {
        let user = rustix::process::geteuid().as_raw();
        format!(
            "{}: can't be read: {error}; it must be there, and the node's user ({user}) must be able to read it",
            file.display()
        )
    };
    let opened = std::fs::File::open(file).map_err(unread)?;
    let mode = opened.metadata().map_err(unread)?.permissions().mode();
    let mut bytes = Vec::new();
    opened.take(MOST).read_to_end(&mut bytes).map_err(unread)?;
    Ok((bytes, mode))
}

/// The pair in use: connections that begin take the newest, those that go on keep theirs.
#[derive(Clone, Debug)]
pub struct Tls {
    config: watch::Receiver<Arc<ServerConfig>>,
    state: watch::Receiver<Option<Certificate>>,
}

impl Tls {
    /// Uses a pair, says what is doubtful about it, and reads the files anew at SIGHUP.
    ///
    /// # Errors
    /// If the signal can't be had.
    pub fn start(files: Files, loaded: Loaded, clock: &SharedClock, shutdown: &Shutdown) -> std::io::Result<Self> {
        let mut hangup = signal(SignalKind::hangup())?;
        warn(&loaded);
        let (told, state) = watch::channel(Some(Certificate { ends_at: loaded.ends_at, fault: None }));
        let (set, config) = watch::channel(loaded.config);
        let (clock, stopping) = (Arc::clone(clock), shutdown.clone());
        shutdown.spawn("certificate", async move {
            loop {
                tokio::select! {
                    heard = hangup.recv() => if heard.is_none() { return },
                    () = stopping.stopping() => return,
                }
                match Loaded::read(&files, clock.now()) {
                    Ok(loaded) => {
                        tracing::info!("certificate and key were read anew; connections that begin use them");
                        warn(&loaded);
                        set.send_replace(loaded.config);
                        told.send_replace(Some(Certificate { ends_at: loaded.ends_at, fault: None }));
                    }
                    Err(problems) => {
                        let fault = problems.join("; ");
                        tracing::error!("certificate and key stay as they were: {fault}");
                        told.send_modify(|now| {
                            if let Some(now) = now {
                                now.fault = Some(fault);
                            }
                        });
                    }
                }
            }
        });
        Ok(Self { config, state })
    }

    /// What new connections use.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.borrow())
    }

    /// How the pair is, for Diagnostics.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Option<Certificate>> {
        self.state.clone()
    }
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    const CERTIFICATE: &str = include_str!("../../tests/fixtures/keys/self-signed.crt");
    const KEY: &str = include_str!("../../tests/fixtures/keys/self-signed.key");
    /// A key of another pair.
    const OTHER: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    fn read(certificate: &str, key: &str, mode: u32, now: Timestamp) -> Result<Loaded, Vec<String>> {
        let place = tempfile::tempdir().unwrap();
        let files = Files { certificate: place.path().join("tls.crt"), key: place.path().join("tls.key") };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
        Loaded::read(&files, now)
    }

    #[test]
    fn a_pair_that_fits_is_taken_and_what_is_doubtful_is_said() {
        let now = SystemClock.now();
        let loaded = read(CERTIFICATE, KEY, 0o640, now).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let loaded = read(CERTIFICATE, KEY, 0o644, now).unwrap();
        assert!(loaded.warnings[0].contains("tls.key: everybody can read"), "{:?}", loaded.warnings);
        let end = loaded.ends_at.unwrap();
        let ended = read(CERTIFICATE, KEY, 0o600, end).unwrap().warnings;
        assert!(ended[0].contains(&end.to_string()) && ended[0].contains("tls.crt"), "{ended:?}");
    }

    #[test]
    fn every_problem_names_its_file_and_what_is_wanted() {
        let now = SystemClock.now();
        let both = read("", "nothing", 0o600, now).unwrap_err();
        assert_eq!(both.len(), 2, "both at once: {both:?}");
        assert!(
            both[0].contains("tls.crt: there is no certificate") && both[0].contains("BEGIN CERTIFICATE"),
            "{both:?}"
        );
        assert!(both[1].contains("tls.key: there is no private key") && both[1].contains("passphrase"), "{both:?}");
        let swapped = read(KEY, CERTIFICATE, 0o600, now).unwrap_err();
        assert_eq!(swapped.len(), 2, "{swapped:?}");
        let foreign = read(CERTIFICATE, OTHER, 0o600, now).unwrap_err();
        assert!(foreign[0].contains("does not belong to the certificate"), "{foreign:?}");
        let broken = read("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", KEY, 0o600, now).unwrap_err();
        assert!(broken[0].contains("tls.crt"), "{broken:?}");
        let missing = Files { certificate: "/nonexistent/a".into(), key: "/nonexistent/b".into() };
        let missing = Loaded::read(&missing, now).unwrap_err();
        assert!(missing.len() == 2 && missing[0].contains("must be able to read it"), "{missing:?}");
    }

    #[test]
    fn one_file_alone_is_a_problem() {
        let mut problems = Vec::new();
        assert!(Files::of(None, Some("k".into()), &mut problems).is_none());
        assert!(Files::of(Some("c".into()), None, &mut problems).is_none());
        assert!(problems[0].contains("--tls-key is given without --tls-cert (SWITCHBOARD_TLS_CERT)"), "{problems:?}");
        assert!(problems[1].contains("SWITCHBOARD_TLS_KEY"), "{problems:?}");
        assert!(Files::of(None, None, &mut problems).is_none() && problems.len() == 2);
    }
}
