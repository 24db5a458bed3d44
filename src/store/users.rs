//! Users, their roles, passwords and tokens; the set-up link.

use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::random_bytes;
use crate::model::user::{ServiceRole, User, UserName};
use crate::store::error::Error;
use crate::store::seal::Place;
use crate::store::sql;
use crate::store::{Store, Transaction};

/// A user about to be made.
#[derive(Clone)]
pub struct NewUser {
    /// What it signs in with.
    pub name: UserName,
    /// May be empty.
    pub email: String,
    /// What it may do everywhere.
    pub service_roles: Vec<ServiceRole>,
    /// PHC string of the password, if it gets one.
    pub password_hash: Option<String>,
    /// The token, if it gets one: kept as SHA-256 for looking up, and sealed.
    pub token: Option<SecretString>,
}

/// A row of the table `users`, without its secrets but the password's hash.
#[derive(FromRow)]
pub(crate) struct UserRow {
    uuid: String,
    name: String,
    email: String,
    service_roles: String,
    password_hash: Option<String>,
    has_token: bool,
    created_at: i64,
    last_sign_in_at: Option<i64>,
}

impl TryFrom<UserRow> for User {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid,
            name: row.name.parse().map_err(Error::unreadable)?,
            email: row.email,
            service_roles: row
                .service_roles
                .split_ascii_whitespace()
                .map(|role| role.parse().map_err(Error::unreadable))
                .collect::<Result<_, _>>()?,
            has_password: row.password_hash.is_some(),
            has_token: row.has_token,
            created_at: Timestamp::from_micros(row.created_at),
            last_sign_in_at: row.last_sign_in_at.map(Timestamp::from_micros),
        })
    }
}

macro_rules! select_users {
    ($rest:literal) => {
        concat!(
            "select uuid, name, email, service_roles, password_hash, (token_hash is not null) as has_token, created_at,
                last_sign_in_at from users ",
            $rest
        )
    };
}

/// Somebody who may do everything and can sign in.
macro_rules! an_administrator {
    () => {
        r"select cast(1 as bigint) from users
          where password_hash is not null and ' ' || service_roles || ' ' like '% service\_admin %' escape '\'"
    };
}

const fn token_place(uuid: &str) -> Place<'_> {
    Place { table: "users", column: "token_sealed", id: uuid }
}

impl Store {
    /// All, by name.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        let rows: Vec<UserRow> = sql::query_as(select_users!("order by name")).fetch_all(self.read()).await?;
        rows.into_iter().map(User::try_from).collect()
    }

    /// The user of this name and the PHC string of its password.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<(User, Option<String>)>, Error> {
        let row: Option<UserRow> =
            sql::query_as(select_users!("where name = $1")).bind(name).fetch_optional(self.read()).await?;
        let Some(row) = row else { return Ok(None) };
        let password_hash = row.password_hash.clone();
        Ok(Some((row.try_into()?, password_hash)))
    }

    /// The user of this uuid.
    pub async fn user(&self, uuid: &str) -> Result<Option<User>, Error> {
        let row: Option<UserRow> =
            sql::query_as(select_users!("where uuid = $1")).bind(uuid).fetch_optional(self.read()).await?;
        row.map(User::try_from).transpose()
    }

    /// The user whose token has this SHA-256.
    pub async fn user_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<User>, Error> {
        let row: Option<UserRow> = sql::query_as(select_users!("where token_hash = $1"))
            .bind(token_hash.as_slice())
            .fetch_optional(self.read())
            .await?;
        row.map(User::try_from).transpose()
    }

    /// The token of a user, opened; none if there is no such user, or it has none.
    ///
    /// # Errors
    /// [`Error::Sealed`] if it does not open.
    pub async fn user_token(&self, uuid: &str) -> Result<Option<SecretString>, Error> {
        let sealed: Option<Option<Vec<u8>>> = sql::query_scalar("select token_sealed from users where uuid = $1")
            .bind(uuid)
            .fetch_optional(self.read())
            .await?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        match self.inner.sealer.open_text(token_place(uuid), &sealed) {
            Some(token) => Ok(Some(SecretString::from(token.as_str()))),
            None => Err(Error::Sealed(format!("the token of the user {uuid}"))),
        }
    }

    /// Whether a `service_admin` with a password exists: then no set-up link is valid.
    pub async fn has_administrator(&self) -> Result<bool, Error> {
        let one: Option<i64> =
            sql::query_scalar(concat!(an_administrator!(), " limit 1")).fetch_optional(self.read()).await?;
        Ok(one.is_some())
    }
}

impl Transaction {
    /// Makes a user.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken.
    pub async fn create_user(&mut self, new: &NewUser, at: Timestamp) -> Result<User, Error> {
        let uuid = random_uuid();
        let token = new.token.as_ref();
        let made = sql::query(
            "insert into users (uuid, name, email, service_roles, password_hash, token_hash, token_sealed, created_at,
                changed_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $8) on conflict (name) do nothing",
        )
        .bind(&uuid)
        .bind(new.name.as_str())
        .bind(&new.email)
        .bind(join(&new.service_roles))
        .bind(&new.password_hash)
        .bind(token.map(hash))
        .bind(token.map(|token| self.inner.sealer.seal(token_place(&uuid), token.expose_secret().as_bytes())))
        .bind(at.as_micros())
        .execute(self.write())
        .await?;
        if made.rows_affected() == 0 {
            return Err(Error::Conflict(format!("there is a user named {} already", new.name)));
        }
        Ok(User {
            uuid,
            name: new.name.clone(),
            email: new.email.clone(),
            service_roles: new.service_roles.clone(),
            has_password: new.password_hash.is_some(),
            has_token: token.is_some(),
            created_at: at,
            last_sign_in_at: None,
        })
    }

    /// Replaces the password and ends every session of the user but `keep`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is no such user any more.
    pub async fn set_password(
        &mut self,
        uuid: &str,
        password_hash: &str,
        keep: Option<&[u8; 32]>,
        at: Timestamp,
    ) -> Result<(), Error> {
        let set = sql::query("update users set password_hash = $2, changed_at = $3 where uuid = $1")
            .bind(uuid)
            .bind(password_hash)
            .bind(at.as_micros())
            .execute(self.write())
            .await?;
        found(set.rows_affected())?;
        self.end_sessions(uuid, keep).await
    }

    /// Replaces the roles; ends every session of the user.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is no such user any more.
    pub async fn set_service_roles(&mut self, uuid: &str, roles: &[ServiceRole], at: Timestamp) -> Result<(), Error> {
        let set = sql::query("update users set service_roles = $2, changed_at = $3 where uuid = $1")
            .bind(uuid)
            .bind(join(roles))
            .bind(at.as_micros())
            .execute(self.write())
            .await?;
        found(set.rows_affected())?;
        self.end_sessions(uuid, None).await
    }

    /// Replaces (or takes away) the token.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is no such user any more.
    pub async fn set_token(&mut self, uuid: &str, token: Option<&SecretString>, at: Timestamp) -> Result<(), Error> {
        let sealed = token.map(|token| self.inner.sealer.seal(token_place(uuid), token.expose_secret().as_bytes()));
        let set = sql::query("update users set token_hash = $2, token_sealed = $3, changed_at = $4 where uuid = $1")
            .bind(uuid)
            .bind(token.map(hash))
            .bind(sealed)
            .bind(at.as_micros())
            .execute(self.write())
            .await?;
        found(set.rows_affected())
    }

    /// Deletes a user and its sessions. False if there is none.
    pub async fn delete_user(&mut self, uuid: &str) -> Result<bool, Error> {
        let gone = sql::query("delete from users where uuid = $1").bind(uuid).execute(self.write()).await?;
        Ok(gone.rows_affected() > 0)
    }

    /// Replaces the set-up link: the SHA-256 of its secret, valid until `expires_at`.
    pub async fn set_setup_link(&mut self, hash: &[u8; 32], expires_at: Timestamp) -> Result<(), Error> {
        sql::query(
            "insert into setup_link (id, hash, expires_at) values (1, $1, $2)
             on conflict (id) do update set hash = excluded.hash, expires_at = excluded.expires_at",
        )
        .bind(hash.as_slice())
        .bind(expires_at.as_micros())
        .execute(self.write())
        .await?;
        Ok(())
    }

    /// Uses the set-up link up. False if it is not this one, expired or used, or an administrator exists.
    pub async fn take_setup_link(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<bool, Error> {
        let taken = sql::query(concat!(
            "delete from setup_link where hash = $1 and expires_at > $2 and not exists (",
            an_administrator!(),
            ")"
        ))
        .bind(hash.as_slice())
        .bind(now.as_micros())
        .execute(self.write())
        .await?;
        Ok(taken.rows_affected() > 0)
    }

    async fn end_sessions(&mut self, uuid: &str, keep: Option<&[u8; 32]>) -> Result<(), Error> {
        // no session has an empty hash
        sql::query("delete from sessions where user_uuid = $1 and id_hash <> $2")
            .bind(uuid)
            .bind(keep.map_or(&[][..], |keep| keep))
            .execute(self.write())
            .await?;
        Ok(())
    }
}

fn found(rows: u64) -> Result<(), Error> {
    if rows > 0 { Ok(()) } else { Err(Error::Conflict("there is no such user any more".to_owned())) }
}

fn join(roles: &[ServiceRole]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" ")
}

fn hash(token: &SecretString) -> Vec<u8> {
    Sha256::digest(token.expose_secret().as_bytes()).to_vec()
}

/// A uuid of version 4, as AMS has them.
fn random_uuid() -> String {
    let mut bytes: [u8; 16] = random_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut uuid = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        let _ = write!(uuid, "{byte:02x}");
    }
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_version_four() {
        let uuid = random_uuid();
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        assert_ne!(uuid, random_uuid());
    }
}
