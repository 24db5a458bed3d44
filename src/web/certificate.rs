//! How the certificate of this node's pages is: for the Diagnostics page.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// A certificate that ends within this time wants attention.
pub(crate) const SOON: Duration = Duration::from_hours(14 * 24);

/// The certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// When it ends, if that could be read.
    pub ends_at: Option<Timestamp>,
    /// Why the newer one in the files is not used, if it is not.
    pub fault: Option<String>,
}
