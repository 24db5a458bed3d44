//! The number of the last commit that others may want to look at.

use tokio::sync::watch;

use crate::store::database::Begun;
use crate::store::postgres::CHANNEL;
use crate::store::sql::{self, On};

/// Counts a commit that others are to notice, as its last statement, and has them told of it. The number it has.
pub(crate) async fn count(begun: &mut Begun) -> Result<u64, sqlx::Error> {
    let number: i64 =
        sql::query_scalar("update revision set number = number + 1 returning number").fetch_one(begun.on()).await?;
    if begun.is_postgres() {
        // sent by the server once it is committed, in the order of commits
        sql::query("select pg_notify($1, $2)").bind(CHANNEL).bind(number.to_string()).execute(begun.on()).await?;
    }
    Ok(number.cast_unsigned())
}

/// The number now.
pub(crate) async fn read(on: On<'_>) -> Result<u64, sqlx::Error> {
    let number: i64 = sql::query_scalar("select number from revision").fetch_one(on).await?;
    Ok(number.cast_unsigned())
}

/// Tells everybody in this process; of several who tell at once the latest holds.
pub(crate) fn tell(changes: &watch::Sender<u64>, number: u64) {
    changes.send_if_modified(|present| {
        let newer = *present < number;
        if newer {
            *present = number;
        }
        newer
    });
}
