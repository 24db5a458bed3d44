//! What the operator said before the start: flag, environment, file, default; every problem at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretBox;
use zeroize::Zeroize as _;

use crate::app::cli::Global;
use crate::app::tls;
use crate::base::clock::{Clock as _, SystemClock};
use crate::config::base_path::BasePath;
use crate::config::file::{self, FileConfig};
use crate::config::job::Job;
use crate::config::schema::SETTINGS;
use crate::config::settings::{Fixed, Source, unknown_variable};

/// Where the pages are unless somebody says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// What a node starts from.
pub struct Configuration {
    /// The data directory.
    pub data: PathBuf,
    /// Where the pages are.
    pub listen: SocketAddr,
    /// The path under which they stand.
    pub base_path: BasePath,
    /// Certificate and key of the pages, if they are served over https.
    pub tls: Option<tls::Files>,
    /// The operator's jobs.
    pub jobs: Vec<Job>,
    /// Settings fixed outside the database.
    pub fixed: Fixed,
    /// The encryption key, if the environment holds it.
    pub encryption_key: Option<Arc<SecretBox<[u8; 32]>>>,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl Configuration {
    /// The defaults, over this data directory: for a program that embeds a node.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: DEFAULT_LISTEN,
            base_path: BasePath::default(),
            tls: None,
            jobs: Vec::new(),
            fixed: Fixed::default(),
            encryption_key: None,
        }
    }

    /// The same, for a node with pages (and for who wants to know whether one would start): reads certificate and key as well.
    ///
    /// # Errors
    /// Every problem there is, as with [`Configuration::load`].
    pub fn load_with_tls(global: &Global) -> Result<Self, Problems> {
        let loaded = Self::load(global);
        let files = match &loaded {
            Ok(configuration) => configuration.tls.clone(),
            // of a file that can't be read the flags are left
            Err(_) => tls::Files::of(global.tls_cert.clone(), global.tls_key.clone(), &mut Vec::new()),
        };
        let unfit = files.map_or(Ok(()), |files| tls::Loaded::read(&files, SystemClock.now()).map(drop));
        match (loaded, unfit) {
            (loaded, Ok(())) => loaded,
            (Ok(_), Err(unfit)) => Err(Problems(unfit)),
            (Err(Problems(mut problems)), Err(mut unfit)) => {
                problems.append(&mut unfit);
                Err(Problems(problems))
            }
        }
    }

    /// Puts flags, environment and file together.
    ///
    /// # Errors
    /// Every problem there is, each saying where it is and what is allowed.
    pub fn load(global: &Global) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let from_file = match global.config.as_deref().map(file::load).transpose() {
            Ok(found) => found.unwrap_or_default(),
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                FileConfig::default()
            }
        };
        let mut fixed = Fixed::default();
        for setting in &from_file.settings {
            if let Err(bad) = fixed.set(setting.name, &setting.value, Source::File) {
                problems.push(format!("line {}: {}: {bad}", setting.line, setting.name));
            }
        }
        for setting in SETTINGS {
            let variable = setting.variable();
            if let Ok(text) = std::env::var(&variable)
                && let Err(bad) = fixed.set(setting.name, &text, Source::Environment)
            {
                problems.push(format!("{variable}: {bad}; allowed: {}", setting.kind.allowed()));
            }
        }
        let mut unknown: Vec<String> =
            std::env::vars_os().filter_map(|(variable, _)| unknown_variable(&variable.to_string_lossy())).collect();
        unknown.sort_unstable();
        problems.append(&mut unknown);
        let tls = tls::Files::of(
            global.tls_cert.clone().or(from_file.tls_cert),
            global.tls_key.clone().or(from_file.tls_key),
            &mut problems,
        );
        let encryption_key = encryption_key(std::env::var("SWITCHBOARD_ENCRYPTION_KEY").ok(), &mut problems);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self {
            data: global.data.clone().or(from_file.data).unwrap_or_else(|| Path::new("data").to_owned()),
            listen: global.listen.or(from_file.listen).unwrap_or(DEFAULT_LISTEN),
            base_path: global.base_path.clone().or(from_file.base_path).unwrap_or_default(),
            tls,
            jobs: from_file.jobs,
            fixed,
            encryption_key,
        })
    }
}

fn encryption_key(text: Option<String>, problems: &mut Vec<String>) -> Option<Arc<SecretBox<[u8; 32]>>> {
    let mut text = text?;
    let decoded = STANDARD.decode(text.trim());
    text.zeroize();
    if let Some(key) = decoded.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        return Some(Arc::new(SecretBox::new(Box::new(key))));
    }
    problems.push(
        "SWITCHBOARD_ENCRYPTION_KEY: is not 32 bytes in base64 (44 characters); `openssl rand -base64 32` makes some"
            .to_owned(),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_a_problem_that_does_not_repeat_it() {
        let mut problems = Vec::new();
        assert!(encryption_key(Some("hunter2".into()), &mut problems).is_none());
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("hunter2"));
        assert!(encryption_key(Some(STANDARD.encode([7; 32])), &mut problems).is_some());
    }
}
