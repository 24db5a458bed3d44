//! Sessions of browsers.

use std::time::Duration;

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::model::user::Session;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::users::UserRow;
use crate::store::{Store, Transaction, cutoff, fixed};

#[derive(FromRow)]
struct Row {
    id_hash: Vec<u8>,
    address: String,
    began_at: i64,
    last_seen_at: i64,
    #[sqlx(flatten)]
    user: UserRow,
}

impl Store {
    /// The session with this hash, if it is neither idle nor old beyond these limits.
    pub async fn session(
        &self,
        id_hash: &[u8; 32],
        idle: Duration,
        age: Duration,
        now: Timestamp,
    ) -> Result<Option<Session>, Error> {
        let row: Option<Row> = sql::query_as(
            "select s.id_hash, s.address, s.created_at as began_at, s.last_seen_at, u.uuid, u.name, u.email,
                u.service_roles, u.password_hash, (u.token_hash is not null) as has_token, u.created_at,
                u.last_sign_in_at
             from sessions s join users u on u.uuid = s.user_uuid
             where s.id_hash = $1 and s.last_seen_at > $2 and s.created_at > $3",
        )
        .bind(id_hash.as_slice())
        .bind(cutoff(now, idle))
        .bind(cutoff(now, age))
        .fetch_optional(self.read())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Session {
            id_hash: fixed(row.id_hash)?,
            user: row.user.try_into()?,
            created_at: Timestamp::from_micros(row.began_at),
            last_seen_at: Timestamp::from_micros(row.last_seen_at),
            address: row.address,
        }))
    }
}

impl Transaction {
    /// Begins a session, and writes down that the user signed in.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is no such user any more.
    pub async fn begin_session(
        &mut self,
        id_hash: &[u8; 32],
        user_uuid: &str,
        address: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        let signed_in = sql::query("update users set last_sign_in_at = $2 where uuid = $1")
            .bind(user_uuid)
            .bind(at.as_micros())
            .execute(self.write_quietly())
            .await?;
        if signed_in.rows_affected() == 0 {
            return Err(Error::Conflict("there is no such user any more".to_owned()));
        }
        sql::query(
            "insert into sessions (id_hash, user_uuid, address, created_at, last_seen_at) values ($1, $2, $3, $4, $4)",
        )
        .bind(id_hash.as_slice())
        .bind(user_uuid)
        .bind(address)
        .bind(at.as_micros())
        .execute(self.write_quietly())
        .await?;
        Ok(())
    }

    /// It was used now (callers ask at most once a minute).
    pub async fn touch_session(&mut self, id_hash: &[u8; 32], at: Timestamp) -> Result<(), Error> {
        sql::query("update sessions set last_seen_at = $2 where id_hash = $1 and last_seen_at < $2")
            .bind(id_hash.as_slice())
            .bind(at.as_micros())
            .execute(self.write_quietly())
            .await?;
        Ok(())
    }

    /// Ends one session.
    pub async fn end_session(&mut self, id_hash: &[u8; 32]) -> Result<(), Error> {
        sql::query("delete from sessions where id_hash = $1").bind(id_hash.as_slice()).execute(self.write()).await?;
        Ok(())
    }

    /// Deletes those beyond these limits. How many went.
    pub async fn purge_sessions(&mut self, idle: Duration, age: Duration, now: Timestamp) -> Result<u64, Error> {
        let gone = sql::query("delete from sessions where last_seen_at <= $1 or created_at <= $2")
            .bind(cutoff(now, idle))
            .bind(cutoff(now, age))
            .execute(self.write_quietly())
            .await?;
        Ok(gone.rows_affected())
    }
}
