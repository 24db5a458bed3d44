//! Whom a web node dials.

use crate::base::id::NodeId;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;

/// Where to dial, and who has to answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// The primary, if it was looked up where it is: another service node that answers there is not the one meant. With an endpoint
    /// that somebody wrote down, whoever answers is.
    pub primary: Option<NodeId>,
}

impl Target {
    /// Refuses whoever is not meant.
    pub(crate) fn check(&self, there: &NodeId) -> Result<(), Error> {
        match &self.primary {
            Some(primary) if primary != there => Err(Error::NotThePrimary {
                there: there.to_string(),
                endpoint: self.endpoint.to_string(),
                primary: primary.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

impl From<Endpoint> for Target {
    /// Whoever answers there.
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, primary: None }
    }
}

impl From<&Endpoint> for Target {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone().into()
    }
}
