//! One attempt to reach the other end, with the current key and then with the former; or several, for a while.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::base::backoff::Backoff;
use crate::base::clock::SharedClock;
use crate::base::id::NodeId;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::metrics::Meter;
use crate::messenger::secure::handshake::{self, Purpose};
use crate::messenger::secure::hello::Versions;
use crate::messenger::secure::keys::Key;
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::messenger::target::Target;
use crate::messenger::transport;

/// How long connecting and shaking hands with one key may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// The delays between attempts: soon enough that the other end's return is noticed within two seconds.
pub(crate) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// What every attempt needs.
#[derive(Clone)]
pub(crate) struct Attempts {
    pub(crate) node: NodeId,
    pub(crate) keys: SharedKeys,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: SharedClock,
}

impl Attempts {
    /// One attempt. `silence` is borne on the new link from the start.
    ///
    /// # Errors
    /// Why there is no link. If no key fits, the mismatch of the current one.
    pub(crate) async fn once(&self, target: &Target, silence: Duration) -> Result<SecureChannel, Error> {
        let mut mismatch = None;
        for key in self.keys.to_dial_with() {
            let attempt = timeout(ATTEMPT_LIMIT, self.with(&key, target, silence)).await;
            match attempt.unwrap_or(Err(Error::Silent(ATTEMPT_LIMIT))) {
                Err(error @ Error::KeyMismatch { .. }) => mismatch = mismatch.or(Some(error)),
                done => return done,
            }
        }
        Err(mismatch.unwrap_or(Error::Closed))
    }

    /// Attempts again and again for as long as `patience`.
    ///
    /// # Errors
    /// Why the last one failed.
    pub(crate) async fn several(
        &self,
        target: &Target,
        silence: Duration,
        patience: Duration,
    ) -> Result<SecureChannel, Error> {
        let deadline = Instant::now() + patience;
        let mut backoff = BACKOFF;
        loop {
            match self.once(target, silence).await {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    let next = Instant::now() + backoff.next_delay();
                    if next > deadline {
                        return Err(error);
                    }
                    tokio::time::sleep_until(next).await;
                }
            }
        }
    }

    async fn with(&self, key: &Key, target: &Target, silence: Duration) -> Result<SecureChannel, Error> {
        let endpoint = &target.endpoint;
        let link = transport::to(endpoint).connect().await.map_err(|error| cannot_connect(endpoint, error))?;
        let agreed = handshake::initiate(link, &self.node, key, Versions::OURS, Purpose::Link).await?;
        // before the proof, so that who is not meant does not take it for a link
        target.check(&agreed.node)?;
        SecureChannel::prove(agreed, silence, &self.meter, Arc::clone(&self.clock)).await
    }
}

/// What the transport said, by what can be done about it.
pub(crate) fn cannot_connect(endpoint: &Endpoint, source: io::Error) -> Error {
    use io::ErrorKind as Kind;
    let (kind, place) = (source.kind(), endpoint.to_string());
    let source = without_place(source, &place);
    match (endpoint, kind) {
        (Endpoint::Tcp { .. }, Kind::NotFound) => Error::NameNotFound { endpoint: place, source },
        (_, Kind::NotFound | Kind::ConnectionRefused) => Error::Refused { endpoint: place, source },
        (_, Kind::TimedOut) => Error::TimedOut { endpoint: place, source },
        (_, Kind::HostUnreachable | Kind::NetworkUnreachable) => Error::Unreachable { endpoint: place, source },
        _ => Error::Io(io::Error::new(kind, format!("can't connect to {endpoint}: {source}"))),
    }
}

/// What the transport said, without the address that the endpoint says already. One that a name stands for stays.
fn without_place(source: io::Error, place: &str) -> io::Error {
    let text = source.to_string();
    let rest = place.strip_prefix("tcp://").and_then(|address| text.strip_prefix(address)?.strip_prefix(": "));
    rest.map(|rest| io::Error::new(source.kind(), rest)).unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chain::chain;
    use crate::config::endpoint::Host;

    #[test]
    fn an_address_is_said_once_and_what_a_name_stands_for_is_said_too() {
        let refused = |host: Host, address: &str| {
            let source = io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address}: Connection refused"));
            chain(&cannot_connect(&Endpoint::Tcp { host, port: 7 }, source))
        };
        for (address, place) in [("127.0.0.2", "127.0.0.2:7"), ("fd00::7", "[fd00::7]:7")] {
            let said = refused(Host::Address(address.parse().unwrap()), place);
            assert_eq!(said, format!("nobody listens at tcp://{place}: Connection refused"));
        }
        let named = refused(Host::Name("gateway".into()), "10.0.0.7:7");
        assert_eq!(named, "nobody listens at tcp://gateway:7: 10.0.0.7:7: Connection refused");
    }
}
