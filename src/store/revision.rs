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

/// Tells everybody in this process what a commit counted; of several who tell at once the latest holds.
pub(crate) fn tell(changes: &watch::Sender<u64>, number: u64) {
    changes.send_if_modified(|present| {
        let newer = *present < number;
        if newer {
            *present = number;
        }
        newer
    });
}

/// Tells everybody in this process what the database holds now, also if that is less than before: after a failover to a server
/// that lost commits everything is to be looked at again. Whether that was news. (A commit of this process between reading and
/// telling makes it news twice; that does no harm.)
pub(crate) fn correct(changes: &watch::Sender<u64>, number: u64) -> bool {
    changes.send_if_modified(|present| std::mem::replace(present, number) != number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_lost_commits_is_a_change_but_a_late_word_is_none() {
        let (changes, mut hears) = watch::channel(7);
        tell(&changes, 5);
        assert!(!hears.has_changed().unwrap(), "somebody told of a later commit meanwhile");
        assert!(!correct(&changes, 7));
        assert!(correct(&changes, 5));
        assert_eq!(*hears.borrow_and_update(), 5);
        tell(&changes, 6);
        assert_eq!(*hears.borrow_and_update(), 6, "what is committed from then on is told");
    }
}
