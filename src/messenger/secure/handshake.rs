//! Noise handshake between initiator and responder.
//!
//! Frames: hello, hello, Noise message, Noise message; or a refusal with nothing but a code. The prologue is both hellos byte
//! for byte, so what was said in the clear is proved afterwards. Payloads are empty. A responder knows a replayed first message
//! only by what follows: nothing takes effect before the first sealed frame opens.

use std::net::IpAddr;

use bytes::Bytes;
use snow::{Builder, HandshakeState};

use crate::base::id::NodeId;
use crate::messenger::error::Error;
use crate::messenger::secure::hello::{Hello, MAX_HELLO, Versions};
use crate::messenger::secure::keys::{Fingerprint, Key, KeyRing, in_hexadecimal};
use crate::messenger::secure::session::{self, Opener, Sealer};
use crate::messenger::transport::{FrameSink, Link};

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";

/// First bytes of the frames of a handshake.
const HELLO: u8 = 0x01;
const NOISE: u8 = 0x02;
const REFUSAL: u8 = 0x03;

/// Codes of a refusal.
const CODE_BUSY: u8 = 1;
const CODE_VERSION: u8 = 2;
const CODE_KEY: u8 = 3;
const CODE_MALFORMED: u8 = 4;
const CODE_NETWORK: u8 = 5;

/// Longer than any Noise message without a payload.
const MAX_NOISE: usize = 128;

/// What the end that dials wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A link.
    Link,
    /// To know whether it could have one.
    Probe,
}

/// A session that was agreed on, though not yet proved by a sealed frame.
pub(crate) struct Agreed {
    pub(crate) link: Link,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) node: NodeId,
    pub(crate) version: u8,
    pub(crate) fingerprint: Fingerprint,
    /// Where the other end is.
    pub(crate) address: Option<IpAddr>,
    /// What the end that dialled wants.
    pub(crate) purpose: Purpose,
}

/// Shakes hands as the end that dialled, with this key.
///
/// # Errors
/// `KeyMismatch` or `VersionMismatch` by what the hellos say; `Busy` or `Unwelcome` if refused; `Invalid` if the other end does
/// not hold the key that it names.
pub(crate) async fn initiate(
    mut link: Link,
    node: &NodeId,
    key: &Key,
    versions: Versions,
    purpose: Purpose,
) -> Result<Agreed, Error> {
    let probe = purpose == Purpose::Probe;
    let ours = Hello { versions, fingerprint: key.raw_fingerprint(), node: node.clone(), probe };
    let our_bytes = ours.encode().ok_or(Error::Invalid("node id for a hello: it is this node's own"))?;
    send(&mut link, HELLO, &our_bytes).await?;
    let their_bytes = recv(&mut link, HELLO, "hello").await?;
    let theirs = Hello::decode(&their_bytes).ok_or(Error::Invalid("hello"))?;
    let version = versions.common(theirs.versions).ok_or_else(|| version_mismatch(&ours, &theirs))?;
    if theirs.fingerprint != ours.fingerprint {
        return Err(key_mismatch(&ours, &theirs));
    }
    let prologue = [&our_bytes[..], &their_bytes].concat();
    let mut noise = builder(&prologue, key)?.build_initiator().map_err(|_| BROKEN)?;
    write(&mut noise, &mut link).await?;
    let answer = recv(&mut link, NOISE, "handshake").await?;
    read(&mut noise, &answer)?;
    agreed(link, noise, theirs, version, purpose)
}

/// Shakes hands as the end that listens, with whichever accepted key the other end names. Whom it refuses it tells a code.
/// `heard` is told that the other end said hello.
///
/// # Errors
/// As for [`initiate`].
pub(crate) async fn respond(
    mut link: Link,
    node: &NodeId,
    keys: &KeyRing,
    versions: Versions,
    heard: impl FnOnce(),
) -> Result<Agreed, Error> {
    match greet_and_prove(&mut link, node, keys, versions, heard).await {
        Ok((noise, theirs, version)) => {
            let purpose = if theirs.probe { Purpose::Probe } else { Purpose::Link };
            agreed(link, noise, theirs, version, purpose)
        }
        Err(error) => {
            refuse(&mut link, code(&error));
            Err(error)
        }
    }
}

/// Tells a peer, without waiting and before it is read, why it is not let in.
pub(crate) fn turn_away(mut link: Link, why: &Error) {
    refuse(&mut link, if matches!(why, Error::Stranger(_)) { CODE_NETWORK } else { CODE_BUSY });
}

async fn greet_and_prove(
    link: &mut Link,
    node: &NodeId,
    keys: &KeyRing,
    versions: Versions,
    heard: impl FnOnce(),
) -> Result<(HandshakeState, Hello, u8), Error> {
    let their_bytes = recv(link, HELLO, "hello").await?;
    let theirs = Hello::decode(&their_bytes).ok_or(Error::Invalid("hello"))?;
    heard();
    let accepted = keys.accepted(theirs.fingerprint);
    let key = accepted.clone().unwrap_or_else(|| keys.current());
    let ours = Hello { versions, fingerprint: key.raw_fingerprint(), node: node.clone(), probe: false };
    let our_bytes = ours.encode().ok_or(Error::Invalid("node id for a hello: it is this node's own"))?;
    send(link, HELLO, &our_bytes).await?;
    let version = versions.common(theirs.versions).ok_or_else(|| version_mismatch(&ours, &theirs))?;
    if accepted.is_none() {
        return Err(key_mismatch(&ours, &theirs));
    }
    let prologue = [&their_bytes[..], &our_bytes].concat();
    let mut noise = builder(&prologue, &key)?.build_responder().map_err(|_| BROKEN)?;
    let first = recv(link, NOISE, "handshake").await?;
    read(&mut noise, &first)?;
    write(&mut noise, link).await?;
    Ok((noise, theirs, version))
}

/// What `snow` says only if this program uses it wrongly.
const BROKEN: Error = Error::Invalid("handshake: it can't be built");

fn builder<'a>(prologue: &'a [u8], key: &'a Key) -> Result<Builder<'a>, Error> {
    let params = PATTERN.parse().map_err(|_| BROKEN)?;
    Builder::new(params).prologue(prologue).and_then(|builder| builder.psk(0, key.bytes())).map_err(|_| BROKEN)
}

fn agreed(link: Link, noise: HandshakeState, theirs: Hello, version: u8, purpose: Purpose) -> Result<Agreed, Error> {
    let address = link.address;
    let session = *noise.get_handshake_hash().first_chunk().ok_or(BROKEN)?;
    let (sealer, opener) = session::halves(noise.into_stateless_transport_mode().map_err(|_| BROKEN)?, session);
    Ok(Agreed { link, sealer, opener, node: theirs.node, version, fingerprint: theirs.fingerprint, address, purpose })
}

async fn write(noise: &mut HandshakeState, link: &mut Link) -> Result<(), Error> {
    let mut message = [0; MAX_NOISE];
    let len = noise.write_message(&[], &mut message).map_err(|_| BROKEN)?;
    send(link, NOISE, &message[..len]).await
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<(), Error> {
    let mut payload = [0; MAX_NOISE];
    match noise.read_message(message, &mut payload) {
        Ok(0) => Ok(()),
        _ => Err(Error::Invalid("proof of the key")),
    }
}

async fn send(link: &mut Link, what: u8, bytes: &[u8]) -> Result<(), Error> {
    let mut frame = Vec::with_capacity(1 + bytes.len());
    frame.push(what);
    frame.extend_from_slice(bytes);
    let sent = link.send(&frame).await;
    if sent.is_err() {
        // who closed before reading may have said why
        if let Err(refusal @ (Error::Busy | Error::NotAllowed | Error::Unwelcome(_))) = recv(link, HELLO, "hello").await
        {
            return Err(refusal);
        }
    }
    Ok(sent?)
}

/// The next frame, which must be of this kind; a refusal is an error.
async fn recv(link: &mut Link, kind: u8, name: &'static str) -> Result<Bytes, Error> {
    let mut frame = link.recv().await?.ok_or(Error::Closed)?;
    if frame.len() > MAX_HELLO {
        return Err(Error::Invalid(name));
    }
    match (frame.split_to(1)[0], &frame[..]) {
        (found, _) if found == kind => Ok(frame),
        (REFUSAL, [CODE_BUSY]) => Err(Error::Busy),
        (REFUSAL, [CODE_NETWORK]) => Err(Error::NotAllowed),
        (REFUSAL, [code]) => Err(Error::Unwelcome(*code)),
        _ => Err(Error::Invalid(name)),
    }
}

fn code(error: &Error) -> u8 {
    match error {
        Error::VersionMismatch { .. } => CODE_VERSION,
        Error::KeyMismatch { .. } => CODE_KEY,
        _ => CODE_MALFORMED,
    }
}

/// One try: who is refused is not waited for.
fn refuse(link: &mut Link, code: u8) {
    let sink: &mut dyn FrameSink = &mut *link.sink;
    sink.reserve(2).copy_from_slice(&[REFUSAL, code]);
    let _ = sink.poll_flush(&mut std::task::Context::from_waker(std::task::Waker::noop()));
}

fn key_mismatch(ours: &Hello, theirs: &Hello) -> Error {
    Error::KeyMismatch {
        here: ours.node.to_string(),
        ours: in_hexadecimal(ours.fingerprint),
        there: theirs.node.to_string(),
        theirs: in_hexadecimal(theirs.fingerprint),
    }
}

fn version_mismatch(ours: &Hello, theirs: &Hello) -> Error {
    Error::VersionMismatch {
        there: theirs.node.to_string(),
        theirs: theirs.versions.to_string(),
        ours: ours.versions.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messenger::transport::memory;

    struct Ends {
        web: Result<Agreed, Error>,
        service: Result<Agreed, Error>,
    }

    async fn shake(web_key: &Key, keys: &KeyRing, web_versions: Versions) -> Ends {
        let (a, b) = memory::pair();
        let (web, service) = (NodeId::new("web-2"), NodeId::new("service-1"));
        let (web, service) = tokio::join!(
            initiate(a, &web, web_key, web_versions, Purpose::Link),
            respond(b, &service, keys, Versions::OURS, || ())
        );
        Ends { web, service }
    }

    fn same_key() -> (Key, KeyRing) {
        let key = Key::generate();
        let text = key.to_base64();
        (key, KeyRing::new(Key::from_base64(secrecy::ExposeSecret::expose_secret(&text)).unwrap()))
    }

    #[tokio::test]
    async fn two_that_hold_the_key_agree() {
        let (key, keys) = same_key();
        let Ends { web: Ok(mut web), service: Ok(mut service) } = shake(&key, &keys, Versions::OURS).await else {
            panic!("no agreement")
        };
        assert_eq!((web.node.as_str(), service.node.as_str()), ("service-1", "web-2"));
        assert_eq!((web.version, service.version), (1, 1));
        let mut frame = vec![0; Sealer::sealed_len(5)];
        web.sealer.seal(b"hello", &mut frame);
        assert_eq!(service.opener.open(&frame).unwrap().unwrap(), b"hello");
    }

    #[tokio::test]
    async fn other_keys_are_named_on_both_ends() {
        let (ours, keys) = (Key::generate(), KeyRing::new(Key::generate()));
        let ends = shake(&ours, &keys, Versions::OURS).await;
        let (ours, theirs) = (&ours.fingerprint()[..8], &keys.fingerprint()[..8]);
        let text = |end: Result<Agreed, Error>| end.err().unwrap().to_string();
        assert_eq!(text(ends.web), format!("key mismatch: web-2 has {ours}…, service-1 has {theirs}…"));
        assert_eq!(text(ends.service), format!("key mismatch: service-1 has {theirs}…, web-2 has {ours}…"));
    }

    #[tokio::test]
    async fn neighbours_in_an_upgrade_speak_what_both_know() {
        let (one, both) = (Versions { lowest: 1, highest: 1 }, Versions { lowest: 1, highest: 2 });
        for (web_versions, service_versions, spoken) in [(both, one, 1), (one, both, 1), (both, both, 2)] {
            let (key, keys) = same_key();
            let (a, b) = memory::pair();
            let (web, service) = (NodeId::new("web-2"), NodeId::new("service-1"));
            let (web, service) = tokio::join!(
                initiate(a, &web, &key, web_versions, Purpose::Link),
                respond(b, &service, &keys, service_versions, || ())
            );
            let (mut web, mut service) =
                (web.unwrap_or_else(|e| panic!("{e}")), service.unwrap_or_else(|e| panic!("{e}")));
            assert_eq!((web.version, service.version), (spoken, spoken));
            let mut frame = vec![0; Sealer::sealed_len(5)];
            service.sealer.seal(b"hello", &mut frame);
            assert_eq!(web.opener.open(&frame).unwrap().unwrap(), b"hello");
        }
    }

    #[tokio::test]
    async fn other_versions_are_named_on_both_ends() {
        let (key, keys) = same_key();
        let ends = shake(&key, &keys, Versions { lowest: 2, highest: 3 }).await;
        let text = |end: Result<Agreed, Error>| end.err().unwrap().to_string();
        assert_eq!(text(ends.web), "service-1 speaks protocol versions 1, this node 2 to 3");
        assert_eq!(text(ends.service), "web-2 speaks protocol versions 2 to 3, this node 1");
    }

    #[tokio::test]
    async fn a_borrowed_fingerprint_proves_nothing() {
        let keys = KeyRing::new(Key::generate());
        let (mut thief, link) = memory::pair();
        let service = NodeId::new("service-1");
        let hello = Hello {
            versions: Versions::OURS,
            fingerprint: keys.current().raw_fingerprint(),
            node: NodeId::new("web-2"),
            probe: false,
        };
        let steal = async {
            send(&mut thief, HELLO, &hello.encode().unwrap()).await.unwrap();
            let their_bytes = recv(&mut thief, HELLO, "hello").await.unwrap();
            let prologue = [&hello.encode().unwrap()[..], &their_bytes].concat();
            let wrong = Key::generate();
            let mut noise = builder(&prologue, &wrong).unwrap().build_initiator().unwrap();
            write(&mut noise, &mut thief).await.unwrap();
            recv(&mut thief, NOISE, "handshake").await
        };
        let (told, found) = tokio::join!(steal, respond(link, &service, &keys, Versions::OURS, || ()));
        assert!(matches!(told, Err(Error::Unwelcome(CODE_MALFORMED))));
        assert!(matches!(found.err(), Some(Error::Invalid("proof of the key"))));
    }

    #[tokio::test]
    async fn who_is_turned_away_before_it_spoke_learns_why() {
        let (web, service) = memory::pair();
        turn_away(service, &Error::Busy);
        let refused = initiate(web, &NodeId::new("web-2"), &Key::generate(), Versions::OURS, Purpose::Link).await;
        assert!(matches!(refused.err(), Some(Error::Busy)));
        let (web, service) = memory::pair();
        turn_away(service, &Error::Stranger([10, 0, 0, 1].into()));
        let refused = initiate(web, &NodeId::new("web-2"), &Key::generate(), Versions::OURS, Purpose::Link).await;
        assert!(matches!(refused.err(), Some(Error::NotAllowed)));
    }

    #[tokio::test]
    async fn what_is_no_hello_is_told_a_code_and_nothing_else() {
        let keys = KeyRing::new(Key::generate());
        for garbage in [&b"GET / HTTP/1.1"[..], b"\x01", b"\x01SWBD", b"\x02\x00", &[1; 600], b"\x03\x01"] {
            let (mut stranger, link) = memory::pair();
            stranger.send(garbage).await.unwrap();
            assert!(respond(link, &NodeId::new("service-1"), &keys, Versions::OURS, || ()).await.is_err());
            assert_eq!(stranger.recv().await.unwrap().unwrap(), [REFUSAL, CODE_MALFORMED].as_slice());
            assert_eq!(stranger.recv().await.unwrap(), None);
        }
    }
}
