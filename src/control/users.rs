//! Making users and deleting them, their roles, passwords and tokens. There is always an administrator left.

use secrecy::SecretString;

use crate::auth::password::{Error as PasswordError, Passwords};
use crate::auth::token;
use crate::control::{Actor, Control, Refusal, quoted};
use crate::model::user::{ServiceRole, User, UserName};
use crate::store::error::Error;
use crate::store::users::NewUser;

/// The longest e-mail address, in bytes.
const LONGEST_EMAIL: usize = 254;

/// A user that somebody wants.
pub struct WantedUser {
    /// What it signs in with.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// What it may do; at least one.
    pub roles: Vec<ServiceRole>,
    /// To sign in with.
    pub password: Option<SecretString>,
    /// Whether it gets a token for `x-api-key`. It needs one of the two.
    pub token: bool,
}

/// A user that was made.
#[derive(Debug)]
pub struct CreatedUser {
    /// Who.
    pub user: User,
    /// Its token, if it got one: shown this once.
    pub token: Option<SecretString>,
}

impl Control {
    /// Makes a user.
    pub async fn create_user(
        &self,
        actor: &Actor,
        passwords: &Passwords,
        wanted: WantedUser,
    ) -> Result<CreatedUser, Refusal> {
        actor.must_act()?;
        let mut wrong = Vec::new();
        let name = wanted.name.parse::<UserName>();
        if let Err(error) = &name {
            wrong.push(("name".to_owned(), error.to_string()));
        }
        if wanted.email.len() > LONGEST_EMAIL || wanted.email.chars().any(char::is_control) {
            wrong.push(("email".to_owned(), format!("one line of at most {LONGEST_EMAIL} bytes is allowed")));
        }
        if wanted.roles.is_empty() {
            wrong.push(("roles".to_owned(), format!("at least one is needed: {}", role_words())));
        }
        match &wanted.password {
            Some(password) => {
                if let Err(error) = Passwords::check(password) {
                    wrong.push(("password".to_owned(), error.to_string()));
                }
            }
            None if !wanted.token => {
                wrong.push(("password".to_owned(), "a user needs a password, a token or both".to_owned()));
            }
            None => {}
        }
        let name = match name {
            Ok(name) if wrong.is_empty() => name,
            _ => return Err(Refusal::Invalid(wrong)),
        };
        let password_hash = match wanted.password {
            Some(password) => Some(hash(passwords, password).await?),
            None => None,
        };
        let token = wanted.token.then(token::generate);
        let mut service_roles = wanted.roles;
        service_roles.sort_unstable();
        service_roles.dedup();
        let new =
            NewUser { name: name.clone(), email: wanted.email, service_roles, password_hash, token: token.clone() };
        let mut transaction = self.store.begin().await?;
        let user = match transaction.create_user(&new, self.clock.now()).await {
            Err(Error::Conflict(_)) => return Err(Refusal::Conflict(format!("there is a user {name} already"))),
            other => other?,
        };
        let result = format!("created with {}", words(&user.service_roles));
        self.audit(&mut transaction, actor, "user:create", name.as_str(), result).await?;
        transaction.commit().await?;
        Ok(CreatedUser { user, token })
    }

    /// Deletes a user, its sessions and its token.
    pub async fn delete_user(&self, actor: &Actor, name: &str) -> Result<(), Refusal> {
        actor.must_act()?;
        let mut transaction = self.store.begin().await?;
        let (user, all) = self.user(name).await?;
        if is_last_administrator(&user, &all) {
            return Err(last_administrator(&user));
        }
        transaction.delete_user(&user.uuid).await?;
        let result = format!("deleted; had {}", words(&user.service_roles));
        self.audit(&mut transaction, actor, "user:delete", name, result).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Replaces a user's roles; its sessions end.
    pub async fn set_roles(&self, actor: &Actor, name: &str, roles: &[ServiceRole]) -> Result<User, Refusal> {
        actor.must_act()?;
        if roles.is_empty() {
            return Err(Refusal::invalid("roles", format!("at least one is needed: {}", role_words())));
        }
        let mut roles = roles.to_vec();
        roles.sort_unstable();
        roles.dedup();
        let mut transaction = self.store.begin().await?;
        let (user, all) = self.user(name).await?;
        if !roles.contains(&ServiceRole::ServiceAdmin) && is_last_administrator(&user, &all) {
            return Err(last_administrator(&user));
        }
        transaction.set_service_roles(&user.uuid, &roles, self.clock.now()).await?;
        let result = format!("{} → {}", words(&user.service_roles), words(&roles));
        self.audit(&mut transaction, actor, "user:roles", name, result).await?;
        transaction.commit().await?;
        Ok(User { service_roles: roles, ..user })
    }

    /// Gives a user another password (one that forgot its own); its sessions end.
    pub async fn set_user_password(
        &self,
        actor: &Actor,
        passwords: &Passwords,
        name: &str,
        password: SecretString,
    ) -> Result<(), Refusal> {
        actor.must_act()?;
        Passwords::check(&password).map_err(|error| Refusal::invalid("password", error.to_string()))?;
        self.user(name).await?;
        let password_hash = hash(passwords, password).await?;
        let mut transaction = self.store.begin().await?;
        let (user, _) = self.user(name).await?;
        transaction.set_password(&user.uuid, &password_hash, None, self.clock.now()).await?;
        self.audit(&mut transaction, actor, "user:password", name, "replaced; sessions ended".to_owned()).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Gives a user a new token, shown this once; the one before is valid no more.
    pub async fn new_token(&self, actor: &Actor, name: &str) -> Result<SecretString, Refusal> {
        let token = token::generate();
        self.set_token(actor, name, Some(&token)).await?;
        Ok(token)
    }

    /// Takes a user's token away.
    pub async fn revoke_token(&self, actor: &Actor, name: &str) -> Result<(), Refusal> {
        self.set_token(actor, name, None).await
    }

    async fn set_token(&self, actor: &Actor, name: &str, token: Option<&SecretString>) -> Result<(), Refusal> {
        actor.must_act()?;
        let mut transaction = self.store.begin().await?;
        let (user, _) = self.user(name).await?;
        transaction.set_token(&user.uuid, token, self.clock.now()).await?;
        let result = if token.is_some() { "new token" } else { "token taken away" };
        self.audit(&mut transaction, actor, "user:token", name, result.to_owned()).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The user of this name, and everybody.
    async fn user(&self, name: &str) -> Result<(User, Vec<User>), Refusal> {
        let all = self.store.users().await?;
        let found = all.iter().find(|user| user.name.as_str() == name).cloned();
        let user = found.ok_or_else(|| Refusal::NotFound(format!("there is no user {}", quoted(name))))?;
        Ok((user, all))
    }
}

async fn hash(passwords: &Passwords, password: SecretString) -> Result<String, Refusal> {
    passwords.hash(password).await.map_err(|error| match error {
        PasswordError::Busy => Refusal::Busy(error.to_string()),
        PasswordError::Unfit | PasswordError::Broken(_) => Refusal::invalid("password", error.to_string()),
    })
}

/// Whether nobody else could administrate from the pages.
fn is_last_administrator(user: &User, all: &[User]) -> bool {
    let administrates = |user: &User| user.has(ServiceRole::ServiceAdmin) && user.has_password;
    administrates(user) && !all.iter().any(|other| other.uuid != user.uuid && administrates(other))
}

fn last_administrator(user: &User) -> Refusal {
    Refusal::Conflict(format!(
        "{} is the last administrator with a password; make another one first, or nobody could sign in to do so",
        user.name
    ))
}

fn words(roles: &[ServiceRole]) -> String {
    if roles.is_empty() {
        return "no role".to_owned();
    }
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

fn role_words() -> String {
    words(&ServiceRole::ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;

    fn user(name: &str, role: ServiceRole, has_password: bool) -> User {
        User {
            uuid: name.to_owned(),
            name: name.parse().unwrap(),
            email: String::new(),
            service_roles: vec![role],
            has_password,
            has_token: true,
            created_at: Timestamp::from_micros(0),
            last_sign_in_at: None,
        }
    }

    #[test]
    fn the_last_one_who_could_sign_in_to_administrate_stays() {
        let ann = user("ann", ServiceRole::ServiceAdmin, true);
        let bot = user("bot", ServiceRole::ServiceAdmin, false);
        let bob = user("bob", ServiceRole::AdminViewer, true);
        let eve = user("eve", ServiceRole::ServiceAdmin, true);
        let few = [ann.clone(), bot.clone(), bob.clone()];
        assert!(is_last_administrator(&ann, &few));
        assert!(!is_last_administrator(&bot, &few) && !is_last_administrator(&bob, &few));
        assert!(!is_last_administrator(&ann, &[ann.clone(), eve]));
    }
}
