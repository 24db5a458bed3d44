//! Password hashing: argon2id, at most two at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, PasswordHash, Version};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest password, in bytes; a longer one is refused before it is hashed.
pub const MAX: usize = 1024;
/// The shortest password, in characters.
pub const MIN: usize = 10;

/// How many are computed at once: each takes a core and 19 MiB for some hundredths of a second.
const AT_ONCE: usize = 2;
/// How many wait at most.
const WAITING: usize = 64;
/// How long one waits at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// OWASP's parameters for argon2id: memory in KiB, passes, lanes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Stands for the salt of a user that does not exist, so that refusing it takes as long.
const NOBODY: &[u8; 16] = b"nobody-has-this.";

/// Why a password was not hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many wait already: try again in a moment (429).
    #[error("too many sign-ins at once; try again in a moment")]
    Busy,
    /// It can't be a password.
    #[error("a password has at least {MIN} characters and at most {MAX} bytes")]
    Unfit,
    /// Hashing failed.
    #[error("hashing failed: {0}")]
    Broken(String),
}

/// Hashes and checks passwords. Clones share the limit.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// A place for everybody who computes or waits; who finds none is sent away at once.
    places: Arc<Semaphore>,
    /// Who holds one of these computes.
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// With the limit of two at a time, 64 waiting for at most 5 s.
    pub fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE + WAITING)), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Whether this can be somebody's new password.
    ///
    /// # Errors
    /// [`Error::Unfit`] if it is too short or too long.
    pub fn check(password: &SecretString) -> Result<(), Error> {
        let text = password.expose_secret();
        // bytes first: a megabyte is not walked through to count its characters
        if text.len() > MAX || text.chars().count() < MIN { Err(Error::Unfit) } else { Ok(()) }
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// [`Error::Unfit`] before anything is computed; [`Error::Busy`] when too many wait.
    pub async fn hash(&self, password: SecretString) -> Result<String, Error> {
        Self::check(&password)?;
        self.in_turn(move || {
            let hash = argon2()?.hash_password(password.expose_secret().as_bytes());
            hash.map(|phc| phc.to_string()).map_err(|error| Error::Broken(error.to_string()))
        })
        .await?
    }

    /// Whether the password is this one. With no hash (an unknown user) it takes as long and says no.
    ///
    /// # Errors
    /// [`Error::Unfit`] for one too long to be anybody's, before anything is computed; [`Error::Busy`] when too many wait.
    pub async fn verify(&self, password: SecretString, phc: Option<String>) -> Result<bool, Error> {
        if password.expose_secret().len() > MAX {
            return Err(Error::Unfit);
        }
        self.in_turn(move || {
            let password = password.expose_secret().as_bytes();
            let Some(phc) = phc else {
                let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
                let hashed = argon2()?.hash_password_into(password, NOBODY, &mut output);
                return hashed.map(|()| false).map_err(|error| Error::Broken(error.to_string()));
            };
            let phc = PasswordHash::new(&phc).map_err(|error| Error::Broken(error.to_string()))?;
            // the cost is the stored hash's own, so that older ones stay valid; the comparison takes constant time
            Ok(argon2()?.verify_password(password, &phc).is_ok())
        })
        .await?
    }

    /// Runs `work` on the blocking pool when it is its turn. The turn belongs to the work: a caller that goes away leaves
    /// its computation counted until it ends.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::Busy)?.expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        task.await.map_err(|error| Error::Broken(error.to_string()))
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

fn argon2() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| Error::Broken(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use futures_util::future::join_all;

    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[tokio::test]
    async fn the_right_password_opens_and_no_other_does() {
        let passwords = Passwords::new();
        let phc = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(passwords.verify(secret("correct horse"), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct hoarse"), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
        assert_ne!(phc, passwords.hash(secret("correct horse")).await.unwrap(), "salts differ");
    }

    #[tokio::test]
    async fn what_can_be_no_password_is_refused_before_it_is_hashed() {
        let passwords = Passwords::new();
        // nobody gets a turn: whoever wants to compute waits for ever
        let turns = Arc::clone(&passwords.turns).acquire_many_owned(2).await.unwrap();
        for text in ["", "too short", "ninechars", &"x".repeat(MAX + 1), &"x".repeat(1 << 20)] {
            assert!(matches!(passwords.hash(secret(text)).await, Err(Error::Unfit)), "{} bytes", text.len());
        }
        let long = secret(&"x".repeat(1 << 20));
        assert!(matches!(passwords.verify(long, Some(String::new())).await, Err(Error::Unfit)));
        drop(turns);
        assert!(Passwords::check(&secret("äöüäöüäöüä")).is_ok(), "characters are counted, not bytes");
        assert!(Passwords::check(&secret(&"x".repeat(MAX))).is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_are_computed_at_once_and_the_rest_wait() {
        let passwords = Passwords::new();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all = (0..20).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            passwords.in_turn(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        assert!(join_all(all).await.iter().all(Result::is_ok));
        assert!((1..=AT_ONCE).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn the_sixty_seventh_is_sent_away_at_once() {
        let passwords = Passwords::new();
        let _turns = Arc::clone(&passwords.turns).acquire_many_owned(2).await.unwrap();
        let mut waiting: Vec<_> = (0..66).map(|_| Box::pin(passwords.in_turn(|| ()))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(passwords.in_turn(|| ()).await, Err(Error::Busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_five_seconds() {
        let passwords = Passwords::new();
        let _turns = Arc::clone(&passwords.turns).acquire_many_owned(2).await.unwrap();
        let began = tokio::time::Instant::now();
        assert!(matches!(passwords.in_turn(|| ()).await, Err(Error::Busy)));
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_keeps_its_computation_counted() {
        let passwords = Passwords::new();
        let (begin, started) = sync_channel::<()>(1);
        let (end, ended) = sync_channel::<()>(1);
        let mut gone = Box::pin(passwords.in_turn(move || {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        }));
        assert!(futures_util::poll!(&mut gone).is_pending());
        started.recv().unwrap();
        drop(gone);
        assert_eq!(passwords.turns.available_permits(), AT_ONCE - 1);
        end.send(()).unwrap();
        drop(passwords.turns.acquire_many(2).await.unwrap());
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_none_is_an_error_and_no_yes() {
        let passwords = Passwords::new();
        assert!(matches!(
            passwords.verify(secret("whatever it is"), Some("plain".into())).await,
            Err(Error::Broken(_))
        ));
    }
}
