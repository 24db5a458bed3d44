//! The messenger on a network: who is let in, how many strangers are borne, and what the doctor says of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard::app::messenger::Applier;
use switchboard::base::clock::SharedClock;
use switchboard::base::id::NodeId;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::endpoint::Host;
use switchboard::config::schema::name::{MESSENGER_ALLOWED_NETWORKS, MESSENGER_ENDPOINT};
use switchboard::config::settings::{Fixed, Settings};
use switchboard::messenger::admission::{MAX_PENDING, MAX_PENDING_EACH};
use switchboard::messenger::client::LinkState;
use switchboard::messenger::doctor::{Examination, Finding, Stage, examine};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::error::Error;
use switchboard::messenger::secure::SharedKeys;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::server::Counters;
use switchboard::messenger::transport;
use switchboard::model::node::{Node, Role};
use switchboard::model::setting::NodeSetting;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::front::{Front, START};
use crate::nodes::{make_primary, node, register};
use crate::support::log::Log;
use crate::support::proxy::{Fault, FrameProxy, Way};
use crate::support::{CALM, Place, Service, Web, copy, ending, numbered, same_keys, soon};

/// More than any test needs.
const LIMIT: Duration = Duration::from_secs(10);

/// Another address of this machine, for strangers to come from.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn address(endpoint: &Endpoint) -> SocketAddr {
    match endpoint {
        Endpoint::Tcp { host: Host::Address(address), port } => SocketAddr::new(*address, *port),
        other => panic!("no address: {other}"),
    }
}

async fn from(here: Ipv4Addr, there: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((here, 0))).unwrap();
    soon("a connection", socket.connect(there)).await.unwrap()
}

async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // a reset after the answer is an end too
    let _ = soon("the end", socket.read_to_end(&mut answer)).await;
    answer
}

/// A refusal with this code, as it stands on the wire.
fn refusal(code: u8) -> [u8; 6] {
    [0, 0, 0, 2, 3, code]
}

#[tokio::test]
async fn who_is_not_allowed_is_told_so_before_it_is_read() {
    let (place, [a, b], log) = (Place::tcp(), same_keys(), Log::capture());
    let endpoint = place.endpoint();
    let mut service = Service::start(&endpoint, &a).await;
    service.server.allow(vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.2/32".parse().unwrap()]);
    for _ in 0..20 {
        // it has said nothing yet
        let mut stranger = TcpStream::connect(address(&endpoint)).await.unwrap();
        assert_eq!(rest(&mut stranger).await, refusal(5));
    }
    assert_eq!(service.server.counters().handshakes_refused, 20);
    let lines = log.lines();
    assert_eq!(
        lines.iter().filter(|line| line.contains("127.0.0.1 is in none of the networks")).count(),
        1,
        "{lines:#?}"
    );
    let mut web = Web::start(&endpoint, &b, CALM);
    let status = web.status("a refusal", |status| status.error.is_some()).await;
    assert!(status.error.unwrap().contains("does not allow the address"));
    // changed live, the next attempt works
    service.server.allow(vec!["127.0.0.0/8".parse().unwrap()]);
    let (mut sender, mut receiver) = service.link().await;
    web.up().await;
    service.server.allow(vec!["127.0.0.1".parse::<IpAddr>().unwrap().into()]);
    sender.send(&[numbered(1)]).await.unwrap();
    web.envelopes(1).await;
    // and a link from where nobody may come from any more ends
    service.server.allow(vec!["10.0.0.0/8".parse().unwrap()]);
    assert!(matches!(ending(&mut receiver).await, Err(Error::Closed)));
    web.down().await;
}

#[tokio::test]
async fn changed_networks_are_in_force_and_said_so_while_a_new_link_is_waited_for() {
    let (front, [a, b]) = (Front::new().await, same_keys());
    let everywhere = Endpoint::Tcp { host: Host::Any, port: address(&Place::tcp().endpoint()).port() };
    let here = everywhere.clone().with_host(Host::Address(Ipv4Addr::LOCALHOST.into()));
    let mut service = Service::start(&everywhere, &a).await;
    let mut web = Web::start(&here, &b, CALM);
    let _link = service.link().await;
    web.up().await;
    let wanted = |networks: &str| {
        let values = [(MESSENGER_ENDPOINT, everywhere.to_string()), (MESSENGER_ALLOWED_NETWORKS, networks.to_owned())];
        Arc::new(Settings::resolve(&Fixed::default(), values.iter().map(|(name, value)| (*name, value.as_str()))).0)
    };
    front.settings.send(wanted("")).unwrap();
    let (told, mut said) = watch::channel(Vec::new());
    let applier = Applier {
        server: Some(service.server.clone()),
        client: Some(web.client.clone()),
        dialled: Some(here.clone().into()),
        keys: b,
        data: front.data.path().to_owned(),
        node: NodeId::new("web-1"),
        presence: None,
        told,
    };
    let clock: SharedClock = front.clock.clone();
    applier.start(&front.store, front.settings.subscribe(), &clock, &front.shutdown);
    // another is primary, and where it should be somebody takes connections and says nothing
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let primary =
        Node { address: Some(mute.local_addr().unwrap().to_string()), ..node("service-2", Role::Service, START) };
    register(&front.store, &[primary]).await;
    make_primary(&front.store, "service-2").await;
    let _waits = soon("an attempt", mute.accept()).await.unwrap();

    let began = Instant::now();
    front.settings.send(wanted("10.0.0.0/8")).unwrap();
    let in_force = |told: &NodeSetting| told.setting == MESSENGER_ALLOWED_NETWORKS && told.in_force == "10.0.0.0/8";
    soon("the node's word", said.wait_for(|told| told.iter().any(in_force))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut stranger = TcpStream::connect(address(&here)).await.unwrap();
    assert_eq!(rest(&mut stranger).await, refusal(5));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_link_that_breaks_while_the_wanted_place_can_not_be_had_comes_back_where_it_was() {
    let (front, [a, b], places) = (Front::new().await, same_keys(), [Place::tcp(), Place::tcp()]);
    let [former, wanted] = places.each_ref().map(Place::endpoint);
    let mut service = Service::start(&former, &a).await;
    let mut web = Web::start(&former, &b, CALM);
    let link = service.link().await;
    web.up().await;
    let at = |endpoint: &Endpoint| {
        let value = endpoint.to_string();
        Arc::new(Settings::resolve(&Fixed::default(), [(MESSENGER_ENDPOINT, value.as_str())]).0)
    };
    front.settings.send(at(&former)).unwrap();
    let (told, mut said) = watch::channel(Vec::new());
    let applier = Applier {
        server: None,
        client: Some(web.client.clone()),
        dialled: Some(former.clone().into()),
        keys: Arc::clone(&b),
        data: front.data.path().to_owned(),
        node: NodeId::new("web-2"),
        presence: None,
        told,
    };
    let clock: SharedClock = front.clock.clone();
    applier.start(&front.store, front.settings.subscribe(), &clock, &front.shutdown);
    front.settings.send(at(&wanted)).unwrap();
    let failed = |told: &NodeSetting| told.setting == MESSENGER_ENDPOINT && told.error.is_some();
    soon("that it can't be had", said.wait_for(|told| told.iter().any(failed))).await.unwrap();
    drop(link);
    service.stop().await;
    web.down().await;
    web.status("a look at the wanted place", |status| status.endpoint == wanted.to_string()).await;

    let mut service = Service::start(&former, &a).await;
    let _link = service.link().await;
    web.up().await;
    // and there it stays only until somebody listens where it is to go
    let mut service = Service::start(&wanted, &a).await;
    let _link = service.link().await;
    web.up().await;
    let in_force = |told: &NodeSetting| told.in_force == wanted.to_string() && told.error.is_none();
    soon("that it is in force", said.wait_for(|told| told.iter().any(in_force))).await.unwrap();
}

#[tokio::test]
async fn a_thousand_silent_strangers_disturb_nobody() {
    let (place, [a, b]) = (Place::tcp(), same_keys());
    let endpoint = place.endpoint();
    let mut service = Service::start(&endpoint, &a).await;
    let mut strangers = Vec::new();
    for _ in 0..1_000 {
        strangers.push(from(ELSEWHERE, address(&endpoint)).await);
    }
    let began = Instant::now();
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(web.live().await.attempts, 0);
    sender.send(&[numbered(1)]).await.unwrap();
    web.envelopes(1).await;
    // all but a few were let go at once, so they hold no descriptor and no memory
    let refused = service.server.counters().handshakes_refused;
    assert!(refused >= 1_000 - 2 * MAX_PENDING_EACH as u64, "{refused}");
    assert_eq!(rest(&mut strangers[500]).await, refusal(1));
    const { assert!(MAX_PENDING_EACH * 4 <= MAX_PENDING, "one address leaves room for others") }
}

#[tokio::test]
async fn a_port_scan_and_garbage_disturb_nobody() {
    let (place, [a, b]) = (Place::tcp(), same_keys());
    let endpoint = place.endpoint();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;
    for round in 0..100_u64 {
        let mut scanner = from(ELSEWHERE, address(&endpoint)).await;
        match round % 4 {
            0 => {}
            // gone with a reset
            1 => rustix::net::sockopt::set_socket_linger(&scanner, Some(Duration::ZERO)).unwrap(),
            2 => scanner.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap(),
            _ => scanner.write_all(&vec![0xff; 70_000]).await.unwrap_or_default(),
        }
        drop(scanner);
        sender.send(&[numbered(round)]).await.unwrap();
        web.envelopes(1).await;
    }
    assert_eq!(web.live().await.state, LinkState::Live);
    let mut other = Web::start(&endpoint, &b, CALM);
    service.link().await;
    other.up().await;
}

#[tokio::test]
async fn the_calm_pace_of_a_pipe_is_quicker_over_tcp() {
    let (place, [a, b]) = (Place::tcp(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let mut service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, CALM);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    // half open from now on
    proxy.fault(Way::ToService, Fault::Swallow);
    proxy.fault(Way::ToWeb, Fault::Swallow);
    let began = Instant::now();
    let ended = ending(&mut receiver).await;
    assert!(matches!(ended, Err(Error::Silent(_))), "{ended:?}");
    web.down().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_wildcard_listens_on_both_families() {
    let [a, b] = same_keys();
    let place = Place::tcp();
    let port = address(&place.endpoint()).port();
    drop(place);
    let everywhere = Endpoint::Tcp { host: Host::Any, port };
    let mut service = Service::start(&everywhere, &a).await;
    let mut hosts = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    hosts.extend(Place::tcp6().map(|place| address(&place.endpoint()).ip()));
    for host in hosts {
        // as an allowed network sees it, an IPv4 peer of a socket for both is an IPv4 peer
        service.server.allow(vec![host.into()]);
        let mut web = Web::start(everywhere.clone().with_host(Host::Address(host)), &b, CALM);
        let _link = service.link().await;
        web.up().await;
    }
}

async fn tried(endpoint: &Endpoint, keys: &SharedKeys) -> Examination {
    soon("a finding", examine(endpoint, keys, LIMIT)).await
}

fn stages(found: &Examination) -> Vec<(Stage, bool)> {
    found.steps.iter().map(|step| (step.stage, step.done)).collect()
}

#[tokio::test]
async fn the_doctor_finds_all_well_and_the_service_takes_no_notice() {
    for place in [Place::tcp(), Place::pipe()] {
        let (endpoint, [a, b], log) = (place.endpoint(), same_keys(), Log::capture());
        let mut service = Service::start(&endpoint, &a).await;
        let found = tried(&endpoint, &b).await;
        assert_eq!((found.finding, found.advice), (Finding::Well, ""), "{found:?}");
        assert!(found.said.contains("service-1") && found.fingerprint == b.fingerprint());
        let resolve = matches!(endpoint, Endpoint::Tcp { .. }).then_some((Stage::Resolve, true));
        let rest = [(Stage::Connect, true), (Stage::Handshake, true), (Stage::Ping, true)];
        assert_eq!(stages(&found), resolve.into_iter().chain(rest).collect::<Vec<_>>());
        assert_eq!(service.server.counters(), Counters::default(), "a probe is not counted");
        // the next link that comes is an honest web node's: none was handed over for the probe
        let mut web = Web::start(&endpoint, &b, CALM);
        let _link = service.link().await;
        web.up().await;
        assert_eq!(service.server.counters().links, 1);
        assert_eq!(service.server.last_refusal(), None);
        assert!(log.lines().iter().all(|line| !line.starts_with("WARN")), "{:#?}", log.lines());
    }
}

#[tokio::test]
async fn the_doctor_tells_keys_apart() {
    let (place, old, new) = (Place::tcp(), Key::generate(), Key::generate());
    let endpoint = place.endpoint();
    let service = Service::start(&endpoint, &std::sync::Arc::new(KeyRing::new(copy(&old)))).await;
    let ring = KeyRing::new(copy(&new));
    let found = soon("a finding", examine(&endpoint, &ring, LIMIT)).await;
    assert_eq!(found.finding, Finding::WrongKey);
    assert!(
        found.said.contains(&old.fingerprint()[..8]) && found.said.contains(&new.fingerprint()[..8]),
        "{}",
        found.said
    );
    assert_eq!(stages(&found).last(), Some(&(Stage::Handshake, false)));
    // in the middle of a rotation
    let ring = KeyRing::new(copy(&old));
    ring.rotate(new);
    let found = soon("a finding", examine(&endpoint, &ring, LIMIT)).await;
    assert_eq!((found.finding, found.fingerprint), (Finding::FormerKey, old.fingerprint()));
    service.stop().await;
}

#[tokio::test]
async fn the_doctor_tells_a_closed_door_from_a_wrong_one() {
    let (place, [a, b]) = (Place::tcp(), same_keys());
    let endpoint = place.endpoint();
    let found = tried(&endpoint, &b).await;
    assert_eq!(found.finding, Finding::Refused, "{found:?}");
    assert!(found.said.contains(&address(&endpoint).to_string()), "{}", found.said);

    let service = Service::start(&endpoint, &a).await;
    service.server.allow(vec!["10.0.0.0/8".parse().unwrap()]);
    let found = tried(&endpoint, &b).await;
    assert_eq!(found.finding, Finding::NotAllowed, "{found:?}");
    assert!(found.advice.contains("Service.MessengerAllowedNetworks"));
    service.stop().await;

    let missing = tried(&Place::pipe().endpoint(), &b).await;
    assert_eq!(missing.finding, Finding::PipeMissing, "{missing:?}");
    // no label may be so long: that is known without asking anybody, who may not answer in time
    let name = format!("{}.invalid", "a".repeat(64));
    let nowhere = tried(&Endpoint::Tcp { host: Host::Name(name.clone()), port: 1 }, &b).await;
    assert_eq!(
        (nowhere.finding, stages(&nowhere)),
        (Finding::NameNotFound, vec![(Stage::Resolve, false)]),
        "{nowhere:?}"
    );
    assert!(nowhere.said.contains(&name), "{}", nowhere.said);
}

#[tokio::test]
async fn the_doctor_tells_a_crowd_from_silence() {
    let (place, [a, b]) = (Place::tcp(), same_keys());
    let endpoint = place.endpoint();
    let service = Service::start(&endpoint, &a).await;
    let mut crowd = Vec::new();
    for _ in 0..MAX_PENDING_EACH {
        crowd.push(from(Ipv4Addr::LOCALHOST, address(&endpoint)).await);
    }
    let found = tried(&endpoint, &b).await;
    assert_eq!((found.finding, stages(&found).last()), (Finding::Busy, Some(&(Stage::Handshake, false))), "{found:?}");
    assert!(found.advice.contains("from where it is flooded"));
    service.stop().await;

    // who holds as many connections as the system keeps for him and takes none: whatever is sent there is dropped
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let deaf = socket.listen(1).unwrap();
    let there = deaf.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(there)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the system keeps any number");
    }
    let silent = Endpoint::Tcp { host: Host::Address(there.ip()), port: there.port() };
    let found = tried(&silent, &b).await;
    assert_eq!(
        (found.finding, stages(&found).last()),
        (Finding::TimedOut, Some(&(Stage::Connect, false))),
        "{found:?}"
    );
    assert!(found.advice.contains("firewalls"));
}

#[tokio::test]
async fn the_doctor_tells_what_answers_there() {
    let [keys] = same_keys();
    let shutdown = Shutdown::new();
    for (answer, finding) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Finding::NoSwitchboard),
        (b"SSH-2.0-x\r\n", Finding::NoSwitchboard),
        (b"", Finding::Closed),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        shutdown.spawn("something else", async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut room = [0; 1024];
            let _ = socket.read(&mut room).await;
            let _ = socket.write_all(answer).await;
        });
        let found = tried(&Endpoint::Tcp { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port }, &keys).await;
        assert_eq!(found.finding, finding, "{found:?}");
    }
    // one that takes the connection and says nothing
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute =
        Endpoint::Tcp { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port: listener.local_addr().unwrap().port() };
    let found = soon("a finding", examine(&mute, &keys, Duration::from_millis(300))).await;
    assert_eq!((found.finding, stages(&found).last()), (Finding::NoSwitchboard, Some(&(Stage::Handshake, false))));
    // and one of another version
    let place = Place::tcp();
    let endpoint = place.endpoint();
    let mut other = transport::to(&endpoint).listen().await.unwrap();
    let serve = async {
        let mut link = other.accept().await.unwrap();
        link.recv().await.unwrap();
        link.send(b"\x01SWBD\x07\x09fingerpr\x09service-9").await.unwrap();
    };
    let (found, ()) = tokio::join!(tried(&endpoint, &keys), serve);
    assert_eq!(found.finding, Finding::WrongVersion, "{found:?}");
}
