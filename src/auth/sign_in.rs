//! Signing in and out, the set-up link, and the throttle on guessing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::auth::access::{Right, may};
use crate::auth::failures::{Failures, printable_name};
use crate::auth::password::{Error as PasswordError, Passwords};
use crate::auth::throttle::Throttle;
use crate::auth::token;
use crate::base::chain::chain;
use crate::base::clock::SharedClock;
use crate::model::audit::NewAuditEntry;
use crate::model::user::{ServiceRole, Session, User, UserName};
use crate::store::error::Error;
use crate::store::users::NewUser;
use crate::store::{Store, Transaction};

/// How long a set-up link is valid.
const LINK_AGE: Duration = Duration::from_hours(1);
/// How often at most the use of a session is written down.
const TOUCH: Duration = Duration::from_mins(1);
/// Stands for a name nobody can have, so that all of those are counted together.
const NO_NAME: &str = "";
/// Stands for the set-up link where attempts are counted; no name holds a space.
const SETUP_LINK: &str = "set-up link";
/// Longer than any session lives.
const EVER: Duration = Duration::from_hours(24 * 3650);

/// Why somebody was not let in; the text is shown to that person.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Wrong name or password: which of the two is not said.
    #[error("this name and password do not go together")]
    Wrong,
    /// Too many failures for this name or from this address: try again later (429).
    #[error("too many attempts; try again in {0} {unit}", unit = if *.0 == 1 { "second" } else { "seconds" })]
    Throttled(u64),
    /// May not see the pages.
    #[error("this user may not see these pages")]
    Forbidden,
    /// Hashing was refused.
    #[error(transparent)]
    Password(#[from] crate::auth::password::Error),
    /// The set-up link is not valid (any more).
    #[error(
        "this link is not valid any more; a new one is printed when the program starts while there is no administrator"
    )]
    Link,
    /// The name is not one, or taken.
    #[error("{0}")]
    Name(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] crate::store::error::Error),
}

/// Somebody who was let in.
pub struct Admitted {
    /// The cookie's value: 256 random bits in hexadecimal.
    pub cookie: SecretString,
    /// Who.
    pub user: User,
}

/// The door. Clones share the throttle (bounded memory: the oldest entries are forgotten).
#[derive(Clone)]
pub struct SignIn {
    store: Store,
    passwords: Passwords,
    clock: SharedClock,
    throttle: Arc<Mutex<Throttle>>,
    failures: Arc<Mutex<Failures>>,
}

impl SignIn {
    /// A door to this store.
    pub fn new(store: Store, passwords: Passwords, clock: SharedClock) -> Self {
        Self {
            store,
            passwords,
            clock,
            throttle: Arc::new(Mutex::new(Throttle::new())),
            failures: Arc::new(Mutex::new(Failures::new())),
        }
    }

    /// What hashes passwords here: whoever makes users shares its limit.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Lets somebody in by name and password, begins a session, audits both success and failure.
    pub async fn enter(&self, name: &str, password: SecretString, address: &str) -> Result<Admitted, Denied> {
        let counted = if name.parse::<UserName>().is_ok() { name } else { NO_NAME };
        self.guarded(counted, name, address, self.try_enter(name, password, address)).await
    }

    async fn try_enter(&self, name: &str, password: SecretString, address: &str) -> Result<Admitted, Denied> {
        let (_, phc) = self.verified(name, password).await?;
        let mut transaction = self.store.begin().await?;
        // read again under the writer's lock: a password changed since must not begin a session by the old one
        let Some((user, now_phc)) = self.store.user_by_name(name).await? else { return Err(Denied::Wrong) };
        if !bool::from(phc.as_bytes().ct_eq(now_phc.unwrap_or_default().as_bytes())) {
            return Err(Denied::Wrong);
        }
        if !may(&user, Right::Look) {
            return Err(Denied::Forbidden);
        }
        let cookie = self.begin_session(&mut transaction, &user, address).await?;
        transaction.commit().await?;
        Ok(Admitted { cookie, user })
    }

    /// The session of a cookie, touched at most once a minute; none if it ended. `idle` and `age` are settings.
    pub async fn session(
        &self,
        cookie: &str,
        idle: std::time::Duration,
        age: std::time::Duration,
    ) -> Result<Option<Session>, crate::store::error::Error> {
        if !token::is_token(cookie) {
            return Ok(None);
        }
        self.write_failures().await;
        let now = self.clock.now();
        let Some(mut session) = self.store.session(&token::hash(cookie), idle, age, now).await? else {
            return Ok(None);
        };
        if now.since(session.last_seen_at) >= TOUCH {
            match self.touch(&session.id_hash).await {
                Ok(()) => session.last_seen_at = now,
                // looking goes on while the database takes no writes
                Err(error) => tracing::debug!(error = %chain(&error), "the use of a session was not written down"),
            }
        }
        Ok(Some(session))
    }

    async fn touch(&self, id_hash: &[u8; 32]) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        transaction.touch_session(id_hash, self.clock.now()).await?;
        transaction.commit().await
    }

    /// Ends the session of a cookie.
    pub async fn leave(&self, cookie: &str, address: &str) -> Result<(), crate::store::error::Error> {
        if !token::is_token(cookie) {
            return Ok(());
        }
        let hash = token::hash(cookie);
        let Some(session) = self.store.session(&hash, EVER, EVER, self.clock.now()).await? else { return Ok(()) };
        let mut transaction = self.store.begin().await?;
        transaction.end_session(&hash).await?;
        let name = session.user.name.to_string();
        self.audit(&mut transaction, name.clone(), address, "session:end", name, "signed out").await?;
        transaction.commit().await
    }

    /// A new set-up link's secret, valid for an hour; none if an administrator with a password exists. The one before is
    /// valid no more.
    pub async fn new_setup_link(&self) -> Result<Option<SecretString>, crate::store::error::Error> {
        let mut transaction = self.store.begin().await?;
        if self.store.has_administrator().await? {
            return Ok(None);
        }
        let secret = token::generate();
        let expires_at = self.clock.now().plus(LINK_AGE);
        transaction.set_setup_link(&token::hash(secret.expose_secret()), expires_at).await?;
        transaction.commit().await?;
        Ok(Some(secret))
    }

    /// Whether a set-up link is valid now. It is not used up by asking.
    pub async fn is_setup_link(&self, secret: &str) -> Result<bool, crate::store::error::Error> {
        if !token::is_token(secret) || self.store.has_administrator().await? {
            return Ok(false);
        }
        // taken, but never committed: what is not committed did not happen
        let mut transaction = self.store.begin().await?;
        transaction.take_setup_link(&token::hash(secret), self.clock.now()).await
    }

    /// Creates the first administrator by the link, and lets it in.
    pub async fn set_up(
        &self,
        secret: &str,
        name: &str,
        password: SecretString,
        address: &str,
    ) -> Result<Admitted, Denied> {
        self.guarded(SETUP_LINK, name, address, self.try_set_up(secret, name, password, address)).await
    }

    async fn try_set_up(
        &self,
        secret: &str,
        name: &str,
        password: SecretString,
        address: &str,
    ) -> Result<Admitted, Denied> {
        // nothing is computed for a link that can't be right
        if !token::is_token(secret) || self.store.has_administrator().await? {
            return Err(Denied::Link);
        }
        let name: UserName = name.parse().map_err(|error| Denied::Name(format!("{error}")))?;
        let password_hash = self.passwords.hash(password).await?;
        let mut transaction = self.store.begin().await?;
        let now = self.clock.now();
        if !transaction.take_setup_link(&token::hash(secret), now).await? {
            return Err(Denied::Link);
        }
        let new = NewUser {
            name: name.clone(),
            email: String::new(),
            service_roles: vec![ServiceRole::ServiceAdmin],
            password_hash: Some(password_hash),
            token: None,
        };
        let user = match transaction.create_user(&new, now).await {
            // the link is not used up: what is not committed did not happen
            Err(Error::Conflict(_)) => return Err(Denied::Name(format!("the name {name} is taken"))),
            other => other?,
        };
        let who = name.to_string();
        let result = "first administrator, by the set-up link";
        self.audit(&mut transaction, who.clone(), address, "user:create", who, result).await?;
        let cookie = self.begin_session(&mut transaction, &user, address).await?;
        transaction.commit().await?;
        Ok(Admitted { cookie, user })
    }

    /// Changes a user's own password: the other sessions end, on every node.
    pub async fn change_password(
        &self,
        session: &Session,
        old: SecretString,
        new: SecretString,
        address: &str,
    ) -> Result<(), Denied> {
        Passwords::check(&new)?;
        let name = session.user.name.as_str();
        self.guarded(name, name, address, self.try_change_password(session, old, new, address)).await
    }

    async fn try_change_password(
        &self,
        session: &Session,
        old: SecretString,
        new: SecretString,
        address: &str,
    ) -> Result<(), Denied> {
        let name = session.user.name.as_str();
        let (_, phc) = self.verified(name, old).await?;
        let new = self.passwords.hash(new).await?;
        let mut transaction = self.store.begin().await?;
        let now_phc = self.store.user_by_name(name).await?.and_then(|(_, phc)| phc).unwrap_or_default();
        if !bool::from(phc.as_bytes().ct_eq(now_phc.as_bytes())) {
            return Err(Denied::Wrong);
        }
        let now = self.clock.now();
        transaction.set_password(&session.user.uuid, &new, Some(&session.id_hash), now).await?;
        let result = "changed; other sessions ended";
        self.audit(&mut transaction, name.to_owned(), address, "user:password", name.to_owned(), result).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The user of an `x-api-key`.
    pub async fn user_of_token(&self, token: &str) -> Result<Option<User>, crate::store::error::Error> {
        if !token::is_token(token) {
            return Ok(None);
        }
        self.write_failures().await;
        self.store.user_by_token(&token::hash(token)).await
    }

    /// Writes down how many refused sign-ins were not written down one by one, once their minute is over. Called before
    /// anybody who may see the audit is let in, so that no one finds it missing; worth calling at a stop, too.
    pub async fn write_failures(&self) {
        let line = self.failures.lock().unwrap_or_else(PoisonError::into_inner).take(self.clock.now());
        if let Some(line) = line {
            self.write_refused(String::new(), "various", line).await;
        }
    }

    /// The user and the hash, if name and password go together; takes as long if there is no such user.
    async fn verified(&self, name: &str, password: SecretString) -> Result<(User, String), Denied> {
        let found = match name.parse::<UserName>() {
            Ok(_) => self.store.user_by_name(name).await?,
            Err(_) => None,
        };
        let phc = found.as_ref().and_then(|(_, phc)| phc.clone());
        if !self.passwords.verify(password, phc.clone()).await? {
            return Err(Denied::Wrong);
        }
        found.map(|(user, _)| user).zip(phc).ok_or(Denied::Wrong)
    }

    /// Lets an attempt at `counted` be made if the throttle does, and counts and writes down what came of it.
    async fn guarded<T>(
        &self,
        counted: &str,
        typed: &str,
        address: &str,
        attempt: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Denied> {
        let admitted = self.throttle().admit(counted, address, self.clock.now());
        let result = if let Err(wait) = admitted {
            // whole seconds, rounded up: who waits as long as told is not refused again
            Err(Denied::Throttled(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
        } else {
            let result = attempt.await;
            match &result {
                Ok(_) | Err(Denied::Forbidden) => self.throttle().succeeded(counted, address),
                Err(Denied::Store(_) | Denied::Password(PasswordError::Busy | PasswordError::Broken(_))) => {
                    self.throttle().not_judged(counted, address);
                }
                Err(_) => {}
            }
            result
        };
        if let Err(denied) = &result {
            self.refused(typed, address, denied).await;
        }
        result
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a refusal down, or only counts it if there were many within a minute.
    async fn refused(&self, typed: &str, address: &str, denied: &Denied) {
        let reason = match denied {
            Denied::Wrong => "wrong name or password",
            Denied::Throttled(_) => "too many attempts",
            Denied::Forbidden => "may not see the pages",
            Denied::Link => "set-up link not valid",
            Denied::Password(PasswordError::Unfit) => "unfit password",
            // not the person's doing
            Denied::Password(_) | Denied::Store(_) | Denied::Name(_) => return,
        };
        self.write_failures().await;
        let single = self.failures.lock().unwrap_or_else(PoisonError::into_inner).count(address, self.clock.now());
        if single {
            self.write_refused(printable_name(typed), address, reason.to_owned()).await;
        }
    }

    async fn write_refused(&self, subject: String, address: &str, result: String) {
        let written = async {
            let mut transaction = self.store.begin().await?;
            self.audit(&mut transaction, "unknown".to_owned(), address, "session:refused", subject, &result).await?;
            transaction.commit().await
        };
        if let Err(error) = written.await {
            tracing::warn!(error = %chain(&error), "a refused sign-in could not be written down");
        }
    }

    async fn begin_session(
        &self,
        transaction: &mut Transaction,
        user: &User,
        address: &str,
    ) -> Result<SecretString, Error> {
        let cookie = token::generate();
        let now = self.clock.now();
        transaction.begin_session(&token::hash(cookie.expose_secret()), &user.uuid, address, now).await?;
        let name = user.name.to_string();
        self.audit(transaction, name.clone(), address, "session:begin", name, "signed in").await?;
        Ok(cookie)
    }

    async fn audit(
        &self,
        transaction: &mut Transaction,
        who: String,
        address: &str,
        action: &'static str,
        subject: String,
        result: &str,
    ) -> Result<(), Error> {
        let entry = NewAuditEntry { who, address: address.to_owned(), action, subject, result: result.to_owned() };
        transaction.append_audit(&entry, self.clock.now()).await
    }
}
