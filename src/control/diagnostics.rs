//! Forget the program's own warnings and errors.

use crate::control::{Actor, Control, Refusal};

impl Control {
    /// Deletes every entry of the diagnostics; how many there were.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], or the database's.
    pub async fn purge_diagnostics(&self, actor: &Actor) -> Result<u64, Refusal> {
        actor.must_act()?;
        let mut transaction = self.store.begin().await?;
        let gone = transaction.purge_diagnostics(0).await?;
        self.audit(&mut transaction, actor, "diagnostics:purge", "", format!("{gone} entries deleted")).await?;
        transaction.commit().await?;
        Ok(gone)
    }
}
