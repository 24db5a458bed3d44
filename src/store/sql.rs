//! One query text for both databases: placeholders `$1`, values held until the statement is run on either.
//!
//! `{now}` in a text stands for the database's own clock, in microseconds since 1970.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::marker::PhantomData;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Error, FromRow, Postgres, RawSql, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    SqlitePool,
};

use crate::store::postgres;

type SqliteQuery = sqlx::query::Query<'static, Sqlite, SqliteArguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, PgArguments>;
type SqliteRows<T> = sqlx::query::QueryAs<'static, Sqlite, T, SqliteArguments>;
type PostgresRows<T> = sqlx::query::QueryAs<'static, Postgres, T, PgArguments>;

/// What stands for the database's clock.
const NOW: &str = "{now}";
const SQLITE_NOW: &str = "cast(unixepoch('subsec') * 1000000 as integer)";
const POSTGRES_NOW: &str = "(extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// Where a statement goes.
pub(crate) enum On<'c> {
    /// Any connection of this pool.
    SqlitePool(&'c SqlitePool),
    /// This connection.
    Sqlite(&'c mut SqliteConnection),
    /// Any connection of this pool.
    PostgresPool(&'c postgres::Pool),
    /// This connection.
    Postgres(&'c mut postgres::Held),
}

/// A value bound to a placeholder. Every one has a type, also one that is null: PostgreSQL wants to know.
pub(crate) enum Value<'q> {
    Integer(Option<i64>),
    Flag(bool),
    Text(Option<Cow<'q, str>>),
    Bytes(Option<Cow<'q, [u8]>>),
}

macro_rules! values {
    ($($from:ty, $value:ident => $made:expr;)*) => {
        $(impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $made
            }
        })*
    };
}

values! {
    i64, value => Self::Integer(Some(value));
    Option<i64>, value => Self::Integer(value);
    bool, value => Self::Flag(value);
    &'q str, value => Self::Text(Some(value.into()));
    Option<&'q str>, value => Self::Text(value.map(Cow::from));
    String, value => Self::Text(Some(value.into()));
    &'q String, value => Self::Text(Some(value.into()));
    &'q Option<String>, value => Self::Text(value.as_deref().map(Cow::from));
    &'q [u8], value => Self::Bytes(Some(value.into()));
    Vec<u8>, value => Self::Bytes(Some(value.into()));
    Option<Vec<u8>>, value => Self::Bytes(value.map(Cow::from));
}

/// A row that either database can give.
pub(crate) trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// What a statement that gives no rows did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    rows: u64,
}

impl Done {
    /// How many rows it touched.
    pub(crate) const fn rows_affected(self) -> u64 {
        self.rows
    }
}

/// A statement and what is bound to it.
pub(crate) struct Query<'q> {
    text: SqlStr,
    values: Vec<Value<'q>>,
}

/// A statement that gives rows.
pub(crate) struct QueryAs<'q, T> {
    query: Query<'q>,
    rows: PhantomData<fn() -> T>,
}

/// A statement that gives rows of one column.
pub(crate) struct QueryScalar<'q, T>(QueryAs<'q, (T,)>);

/// A statement without rows.
pub(crate) fn query<'q>(text: impl SqlSafeStr) -> Query<'q> {
    Query { text: text.into_sql_str(), values: Vec::new() }
}

/// A statement whose rows are `T`.
pub(crate) fn query_as<'q, T>(text: impl SqlSafeStr) -> QueryAs<'q, T> {
    QueryAs { query: query(text), rows: PhantomData }
}

/// A statement whose rows are one `T` each.
pub(crate) fn query_scalar<'q, T>(text: impl SqlSafeStr) -> QueryScalar<'q, T> {
    QueryScalar(query_as(text))
}

/// Does the same with a query made for the database that `$on` leads to. Boxed: four ways in one future would make every
/// future that holds it large.
macro_rules! on_either {
    ($query:expr, $on:expr, |$made:ident, $connection:ident| $call:expr) => {
        match $on {
            On::SqlitePool($connection) => {
                let $made = $query.for_sqlite()?;
                Box::pin($call).await
            }
            On::Sqlite($connection) => {
                let $made = $query.for_sqlite()?;
                Box::pin($call).await
            }
            On::PostgresPool(pool) => {
                let $made = $query.for_postgres()?;
                let mut held = Box::pin(pool.acquire()).await?;
                let ($connection, fate) = held.parts();
                fate.limit(Box::pin($call)).await
            }
            On::Postgres(held) => {
                let $made = $query.for_postgres()?;
                let ($connection, fate) = held.parts();
                fate.limit(Box::pin($call)).await
            }
        }
    };
}

/// Several statements without values, as a migration has.
pub(crate) struct Script(pub(crate) &'static str);

impl Script {
    /// Runs them, one after the other.
    pub(crate) async fn run(self, on: On<'_>) -> Result<(), Error> {
        on_either!(self, on, |made, connection| async move { made.execute(connection).await.map(drop) })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the statements with values, made in the same place, can fail")]
    fn for_sqlite(self) -> Result<RawSql, Error> {
        Ok(sqlx::raw_sql(self.0))
    }

    fn for_postgres(self) -> Result<RawSql, Error> {
        self.for_sqlite()
    }
}

impl<'q> Query<'q> {
    /// Binds the next placeholder's value.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it.
    pub(crate) async fn execute(self, on: On<'_>) -> Result<Done, Error> {
        on_either!(self, on, |made, connection| async move {
            Ok(Done { rows: made.execute(connection).await?.rows_affected() })
        })
    }

    fn for_sqlite(self) -> Result<SqliteQuery, Error> {
        let (text, arguments) = self.sqlite_parts()?;
        Ok(sqlx::query_with(text, arguments))
    }

    fn for_postgres(self) -> Result<PostgresQuery, Error> {
        let (text, arguments) = self.postgres_parts()?;
        Ok(sqlx::query_with(text, arguments))
    }

    fn sqlite_parts(self) -> Result<(SqlStr, SqliteArguments), Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Integer(value) => arguments.add(value),
                Value::Flag(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value.map(Cow::into_owned)),
                Value::Bytes(value) => arguments.add(value.map(Cow::into_owned)),
            }
            .map_err(Error::Encode)?;
        }
        Ok((render(self.text, SQLITE_NOW), arguments))
    }

    fn postgres_parts(self) -> Result<(SqlStr, PgArguments), Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            match value {
                Value::Integer(value) => arguments.add(value),
                Value::Flag(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value.map(without_nul).as_deref()),
                Value::Bytes(value) => arguments.add(value.as_deref()),
            }
            .map_err(Error::Encode)?;
        }
        Ok((render(self.text, POSTGRES_NOW), arguments))
    }
}

impl<'q, T: Row> QueryAs<'q, T> {
    /// Binds the next placeholder's value.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// All rows.
    pub(crate) async fn fetch_all(self, on: On<'_>) -> Result<Vec<T>, Error> {
        on_either!(self, on, |made, connection| made.fetch_all(connection))
    }

    /// The first row, if there is one.
    pub(crate) async fn fetch_optional(self, on: On<'_>) -> Result<Option<T>, Error> {
        on_either!(self, on, |made, connection| made.fetch_optional(connection))
    }

    /// The first row.
    pub(crate) async fn fetch_one(self, on: On<'_>) -> Result<T, Error> {
        self.fetch_optional(on).await?.ok_or(Error::RowNotFound)
    }

    /// Gives row after row to `take`, as they come, until it has enough.
    pub(crate) async fn take_while(self, on: On<'_>, mut take: impl FnMut(T) -> bool) -> Result<(), Error> {
        on_either!(self, on, |made, connection| async move {
            let mut rows = made.fetch(connection);
            while let Some(row) = rows.try_next().await? {
                if !take(row) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn for_sqlite(self) -> Result<SqliteRows<T>, Error> {
        let (text, arguments) = self.query.sqlite_parts()?;
        Ok(sqlx::query_as_with(text, arguments))
    }

    fn for_postgres(self) -> Result<PostgresRows<T>, Error> {
        let (text, arguments) = self.query.postgres_parts()?;
        Ok(sqlx::query_as_with(text, arguments))
    }
}

impl<'q, T> QueryScalar<'q, T>
where
    (T,): Row,
{
    /// Binds the next placeholder's value.
    pub(crate) fn bind(self, value: impl Into<Value<'q>>) -> Self {
        Self(self.0.bind(value))
    }

    /// All values.
    pub(crate) async fn fetch_all(self, on: On<'_>) -> Result<Vec<T>, Error> {
        Ok(self.0.fetch_all(on).await?.into_iter().map(|(value,)| value).collect())
    }

    /// The first value, if there is one.
    pub(crate) async fn fetch_optional(self, on: On<'_>) -> Result<Option<T>, Error> {
        Ok(self.0.fetch_optional(on).await?.map(|(value,)| value))
    }

    /// The first value.
    pub(crate) async fn fetch_one(self, on: On<'_>) -> Result<T, Error> {
        Ok(self.0.fetch_one(on).await?.0)
    }
}

/// A statement put together from pieces; values become numbered placeholders.
pub(crate) struct Builder<'q> {
    text: String,
    values: Vec<Value<'q>>,
}

impl<'q> Builder<'q> {
    /// Begins with this.
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Adds a piece of text.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.values.push(value.into());
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// The same, but how SQLite would go about it.
    #[cfg(test)]
    pub(crate) fn explained(self) -> Self {
        Self { text: format!("explain query plan {}", self.text), values: self.values }
    }

    /// The statement, whose rows are `T`.
    pub(crate) fn build_query_as<T>(self) -> QueryAs<'q, T> {
        // every piece is a text of this program
        let query = Query { text: AssertSqlSafe(self.text).into_sql_str(), values: self.values };
        QueryAs { query, rows: PhantomData }
    }

    /// The statement, whose rows are one `T` each.
    pub(crate) fn build_query_scalar<T>(self) -> QueryScalar<'q, T> {
        QueryScalar(self.build_query_as())
    }
}

/// Puts the database's clock into a text.
fn render(text: SqlStr, now: &str) -> SqlStr {
    if text.as_str().contains(NOW) { AssertSqlSafe(text.as_str().replace(NOW, now)).into_sql_str() } else { text }
}

/// PostgreSQL keeps every character but this one.
fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_values_become_a_text_with_numbered_placeholders() {
        let mut builder = Builder::new("select a from b where c = ");
        builder.push_bind(1).push(" and d = ").push_bind("e");
        let query = builder.build_query_scalar::<i64>().0.query;
        assert_eq!(query.text.as_str(), "select a from b where c = $1 and d = $2");
        assert_eq!(query.values.len(), 2);
    }

    #[test]
    fn the_clock_is_each_databases_own() {
        let text = |now| render("select {now}, {now}".into_sql_str(), now).as_str().to_owned();
        assert_eq!(text(SQLITE_NOW), format!("select {SQLITE_NOW}, {SQLITE_NOW}"));
        assert_eq!(text(POSTGRES_NOW), format!("select {POSTGRES_NOW}, {POSTGRES_NOW}"));
    }

    #[test]
    fn a_character_that_postgresql_can_not_keep_is_replaced() {
        assert_eq!(without_nul("a\0b".into()), "a\u{fffd}b");
        assert!(matches!(without_nul("ab".into()), Cow::Borrowed("ab")));
    }
}
