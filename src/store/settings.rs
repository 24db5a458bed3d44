//! Settings, their version and history; secrets are sealed.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::model::setting::{SettingChange, StoredSetting};
use crate::store::error::Error;
use crate::store::seal::{Place, Sealer};
use crate::store::sql;
use crate::store::{Store, Transaction};

#[derive(FromRow)]
struct Row {
    name: String,
    value: Option<String>,
    sealed: Option<Vec<u8>>,
    version: i64,
    changed_by: String,
    changed_at: i64,
}

impl Row {
    fn read(self, sealer: &Sealer) -> Result<Option<StoredSetting>, Error> {
        let value = match (self.value, self.sealed) {
            (Some(value), _) => value,
            (None, Some(bytes)) => match sealer.open_text(place(&self.name), &bytes) {
                Some(value) => value.to_string(),
                None => return Err(Error::Sealed(format!("the stored value of the setting {}", self.name))),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(StoredSetting {
            name: self.name,
            value,
            version: self.version,
            changed_by: self.changed_by,
            changed_at: Timestamp::from_micros(self.changed_at),
        }))
    }
}

#[derive(FromRow)]
struct ChangeRow {
    name: String,
    value: Option<String>,
    version: i64,
    cleared: bool,
    changed_by: String,
    changed_at: i64,
}

impl From<ChangeRow> for SettingChange {
    fn from(row: ChangeRow) -> Self {
        let ChangeRow { name, value, version, cleared, changed_by, changed_at } = row;
        Self { name, value, version, cleared, changed_by, changed_at: Timestamp::from_micros(changed_at) }
    }
}

const fn place(name: &str) -> Place<'_> {
    Place { table: "settings", column: "sealed", id: name }
}

impl Store {
    /// All that were ever saved and not cleared, by name.
    ///
    /// # Errors
    /// [`Error::Sealed`] names a secret one that does not open.
    pub async fn settings(&self) -> Result<Vec<StoredSetting>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select name, value, sealed, version, changed_by, changed_at from settings
             where value is not null or sealed is not null order by name",
        )
        .fetch_all(self.read())
        .await?;
        rows.into_iter().filter_map(|row| row.read(&self.inner.sealer).transpose()).collect()
    }

    /// One of them; none if it was never saved, or cleared.
    ///
    /// # Errors
    /// [`Error::Sealed`] if it is secret and does not open.
    pub async fn setting(&self, name: &str) -> Result<Option<StoredSetting>, Error> {
        let row: Option<Row> =
            sql::query_as("select name, value, sealed, version, changed_by, changed_at from settings where name = $1")
                .bind(name)
                .fetch_optional(self.read())
                .await?;
        row.map_or(Ok(None), |row| row.read(&self.inner.sealer))
    }

    /// The changes of one setting (of all if none is named), newest first.
    pub async fn setting_history(&self, name: Option<&str>, limit: u32) -> Result<Vec<SettingChange>, Error> {
        let rows: Vec<ChangeRow> = match name {
            Some(name) => {
                sql::query_as(
                    "select name, value, version, cleared, changed_by, changed_at from setting_changes
                     where name = $1 order by version desc limit $2",
                )
                .bind(name)
                .bind(i64::from(limit))
                .fetch_all(self.read())
                .await?
            }
            None => {
                sql::query_as(
                    "select name, value, version, cleared, changed_by, changed_at from setting_changes
                     order by changed_at desc, version desc, name limit $1",
                )
                .bind(i64::from(limit))
                .fetch_all(self.read())
                .await?
            }
        };
        Ok(rows.into_iter().map(SettingChange::from).collect())
    }
}

impl Transaction {
    /// Saves a setting (clears it if `value` is none) and gives its new version. Clearing what is not stored changes nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] if `seen` is given and is not the present version (0: never saved, or cleared): somebody else
    /// changed it.
    pub async fn save_setting(
        &mut self,
        name: &str,
        value: Option<&str>,
        secret: bool,
        seen: Option<i64>,
        by: &str,
        at: Timestamp,
    ) -> Result<i64, Error> {
        let row: Option<(i64, bool)> = sql::query_as(
            "select version, (value is null and sealed is null) as cleared from settings where name = $1",
        )
        .bind(name)
        .fetch_optional(self.write())
        .await?;
        let (present, cleared) = row.unwrap_or((0, true));
        // who saw the default saw what holds now, also if it was changed and cleared meanwhile
        let agrees = seen.is_none_or(|seen| seen == present || (seen == 0 && cleared));
        if !agrees {
            return Err(changed_meanwhile(name));
        }
        if value.is_none() && cleared {
            return Ok(present);
        }
        self.write_setting(name, value, secret, Some(present), by, at).await?.ok_or_else(|| changed_meanwhile(name))
    }

    /// Saves `value` unless the setting has one already, and gives the one that holds: exactly one, however many ask.
    ///
    /// # Errors
    /// [`Error::Sealed`] if it has a secret one that does not open.
    pub async fn settle_setting(
        &mut self,
        name: &str,
        value: &str,
        secret: bool,
        by: &str,
        at: Timestamp,
    ) -> Result<String, Error> {
        if self.write_setting(name, Some(value), secret, None, by, at).await?.is_some() {
            return Ok(value.to_owned());
        }
        let row: Row =
            sql::query_as("select name, value, sealed, version, changed_by, changed_at from settings where name = $1")
                .bind(name)
                .fetch_one(self.write())
                .await?;
        match row.read(&self.inner.sealer)? {
            Some(setting) => Ok(setting.value),
            None => Err(changed_meanwhile(name)),
        }
    }

    /// Writes the value and the history if the present version is `expected`, or, if none is, while the setting has no value.
    /// The new version; none if that was not so.
    async fn write_setting(
        &mut self,
        name: &str,
        value: Option<&str>,
        secret: bool,
        expected: Option<i64>,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<i64>, Error> {
        let plain = value.filter(|_| !secret);
        let sealed = value.filter(|_| secret).map(|value| self.inner.sealer.seal(place(name), value.as_bytes()));
        let version: Option<i64> = sql::query_scalar(
            "insert into settings (name, value, sealed, version, changed_by, changed_at) values ($1, $2, $3, 1, $4, $5)
             on conflict (name) do update set
                value = excluded.value, sealed = excluded.sealed, version = settings.version + 1,
                changed_by = excluded.changed_by, changed_at = excluded.changed_at
             where settings.version = $6 or ($6 < 0 and settings.value is null and settings.sealed is null)
             returning version",
        )
        .bind(name)
        .bind(plain)
        .bind(sealed)
        .bind(by)
        .bind(at.as_micros())
        .bind(expected.unwrap_or(-1))
        .fetch_optional(self.write())
        .await?;
        let Some(version) = version else { return Ok(None) };
        sql::query(
            "insert into setting_changes (name, version, value, cleared, changed_by, changed_at)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(name)
        .bind(version)
        .bind(plain)
        .bind(value.is_none())
        .bind(by)
        .bind(at.as_micros())
        .execute(self.write())
        .await?;
        Ok(Some(version))
    }
}

fn changed_meanwhile(name: &str) -> Error {
    Error::Conflict(format!("somebody else changed {name} meanwhile; look at its value and decide again"))
}
