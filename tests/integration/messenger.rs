//! What the messenger withstands: other keys, other versions, strangers, eavesdroppers, replays, restarts and moves.

use std::collections::BTreeSet;
use std::os::unix::net as unix;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::base::clock::{Clock as _, SystemClock, Timestamp};
use switchboard::base::id::NodeId;
use switchboard::messenger::Pace;
use switchboard::messenger::admission::MAX_PENDING;
use switchboard::messenger::client::{Incoming, LinkState, LinkStatus};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::error::Error;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::target::Target;
use switchboard::messenger::transport::{self, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::log::Log;
use crate::support::proxy::{ByteProxy, Fault, FrameProxy, Way};
use crate::support::{CALM, Place, Service, Web, copy, ending, next_envelopes, number, numbered, same_keys, soon};

async fn connect(endpoint: &Endpoint) -> Link {
    transport::to(endpoint).connect().await.unwrap()
}

async fn frame(link: &mut Link) -> Option<Bytes> {
    soon("a frame", link.recv()).await.unwrap()
}

/// The service node still serves an honest web node.
async fn still_serves(service: &mut Service, web_keys: &Arc<KeyRing>) {
    let mut web = Web::start(service.server.endpoint(), web_keys, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;
    sender.send(&[numbered(1)]).await.unwrap();
    web.envelopes(1).await;
}

#[tokio::test]
async fn keys_are_rotated_without_losing_the_link() {
    let (place, old, new) = (Place::pipe(), Key::generate(), Key::generate());
    let (service_keys, web_keys, late_keys) =
        (Arc::new(KeyRing::new(copy(&old))), Arc::new(KeyRing::new(copy(&old))), Arc::new(KeyRing::new(copy(&old))));
    let endpoint = place.endpoint();
    let mut service = Service::start(&endpoint, &service_keys).await;
    let mut web = Web::start(&endpoint, &web_keys, CALM);
    let (_old_sender, mut old_receiver) = service.link().await;
    web.up().await;

    // the web node hears of the new key first: it falls back on the former one
    web_keys.rotate(copy(&new));
    web.client.redial(endpoint.clone()).await.unwrap();
    let (_sender, mut receiver) = service.link().await;
    assert!(ending(&mut old_receiver).await.is_ok());
    web.up().await;

    // the service node hears of it too: both keys are accepted
    service_keys.rotate(copy(&new));
    let mut late = Web::start(&endpoint, &late_keys, CALM);
    let (_late_sender, mut late_receiver) = service.link().await;
    late.up().await;
    web.client.redial(endpoint.clone()).await.unwrap();
    let (mut sender, _receiver) = service.link().await;
    assert!(ending(&mut receiver).await.is_ok());
    web.up().await;

    // the overlap ends: links of the former key are ended and it is not accepted again
    web_keys.forget_former();
    service_keys.forget_former();
    service.server.end_links_of_forgotten_keys();
    assert!(matches!(ending(&mut late_receiver).await, Err(Error::Closed)));
    late.down().await;
    let status = late.status("a mismatch", |s| s.error.as_ref().is_some_and(|e| e.contains("mismatch"))).await;
    assert!(status.error.unwrap().contains(&old.fingerprint()[..8]));
    sender.send(&[numbered(1)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 1);
    assert_eq!(web.live().await.state, LinkState::Live);
}

#[tokio::test]
async fn another_version_is_told_a_code_and_named_in_the_log() {
    let (place, [keys]) = (Place::pipe(), same_keys());
    let service = Service::start(&place.endpoint(), &keys).await;
    let mut link = connect(&service.server.endpoint()).await;
    link.send(b"\x01SWBD\x02\x03fingerpr\x05web-9").await.unwrap();
    let hello = frame(&mut link).await.unwrap();
    assert!(hello.starts_with(b"\x01SWBD\x01\x01") && hello.ends_with(b"\x09service-1"), "{hello:?}");
    assert_eq!(frame(&mut link).await.unwrap(), [3, 2].as_slice());
    assert_eq!(frame(&mut link).await, None);
    let refusal = service.server.last_refusal().unwrap();
    assert_eq!(refusal, "web-9 speaks protocol versions 2 to 3, this node 1");
}

#[tokio::test]
async fn a_service_of_another_version_is_named() {
    let (place, [keys]) = (Place::pipe(), same_keys());
    let endpoint = place.endpoint();
    let mut listener = transport::to(&endpoint).listen().await.unwrap();
    let web = Web::start(&endpoint, &keys, CALM);
    let mut link = listener.accept().await.unwrap();
    frame(&mut link).await.unwrap();
    link.send(b"\x01SWBD\x07\x09fingerpr\x09service-9").await.unwrap();
    let status = web.status("a mismatch", |status| status.error.is_some()).await;
    assert_eq!(status.error.unwrap(), "service-9 speaks protocol versions 7 to 9, this node 1");
}

#[tokio::test]
async fn silent_strangers_are_bounded_and_give_way_to_who_speaks() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let mut service = Service::start(&place.endpoint(), &a).await;
    let endpoint = service.server.endpoint();
    let mut strangers = Vec::new();
    for _ in 0..MAX_PENDING {
        strangers.push(connect(&endpoint).await);
    }
    let _last = connect(&endpoint).await;
    assert_eq!(frame(&mut strangers[0]).await, None, "the oldest gives way");
    assert_eq!(service.server.counters().handshakes_refused, 1);
    // an honest node comes in while they all stay
    let mut web = Web::start(&endpoint, &b, CALM);
    web.up().await;
    service.link().await;
    assert_eq!(web.live().await.attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stranger_has_five_seconds() {
    let (place, [a, b]) = (Place::memory(), same_keys());
    let mut service = Service::start(&place.endpoint(), &a).await;
    let began = tokio::time::Instant::now();
    let mut silent = connect(&service.server.endpoint()).await;
    assert_eq!(frame(&mut silent).await, None);
    assert_eq!(began.elapsed().as_secs(), 5);
    // one who says hello and then nothing has no more
    let mut hesitant = connect(&service.server.endpoint()).await;
    hesitant.send(b"\x01SWBD\x01\x01fingerpr\x05web-9").await.unwrap();
    while frame(&mut hesitant).await.is_some() {}
    assert_eq!(service.server.counters().handshakes_refused, 2);
    still_serves(&mut service, &b).await;
}

#[tokio::test]
async fn garbage_and_huge_prefixes_are_refused_at_once() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let mut service = Service::start(&place.endpoint(), &a).await;
    let Endpoint::Pipe(path) = service.server.endpoint() else { panic!() };
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0xff; 4],
        &[0, 0, 0, 0],
        &[0, 1, 0, 0],
        &[0, 0, 0, 3, 2, 0, 0],
    ];
    for bytes in garbage {
        let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // closing with unread bytes resets the connection
        let _ = soon("the end", socket.read_to_end(&mut answer)).await;
        assert!(answer.len() <= 6, "{answer:?}");
    }
    assert_eq!(service.server.counters().handshakes_refused, 5);
    still_serves(&mut service, &b).await;
}

#[tokio::test]
async fn a_stale_file_is_no_obstacle_and_a_living_service_is_not_pushed_aside() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let endpoint = place.endpoint();
    let Endpoint::Pipe(path) = &endpoint else { panic!() };
    drop(unix::UnixListener::bind(path).unwrap());
    let mut service = Service::start(&endpoint, &a).await;
    let shutdown = switchboard::base::shutdown::Shutdown::new();
    let identity = switchboard::messenger::Identity { node: switchboard::base::id::NodeId::new("service-2") };
    let second =
        switchboard::messenger::server::Server::listen(identity, endpoint.clone(), Arc::clone(&a), &shutdown).await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains("another process listens") && error.contains(path.to_str().unwrap()), "{error}");
    still_serves(&mut service, &b).await;
}

#[tokio::test]
async fn nothing_readable_crosses_the_pipe() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let (Endpoint::Pipe(front_path), Endpoint::Pipe(back_path)) = (&front, &back) else { panic!() };
    let mut service = Service::start(&back, &a).await;
    let capture = ByteProxy::start(front_path, back_path);
    let mut web = Web::start(&front, &b, CALM);
    let (mut sender, mut receiver) = service.link().await;
    web.up().await;
    let text = b"backup of customers.db finished";
    let batch = vec![(1, Bytes::from_static(text)); 100];
    sender.send(&batch).await.unwrap();
    sender.send(&[(1, Bytes::from(text.repeat(10_000)))]).await.unwrap();
    assert_eq!(web.envelopes(101).await[0].body, text.as_slice());
    web.client.send(2, Bytes::from_static(text)).unwrap();
    assert_eq!(next_envelopes(&mut receiver).await[0].body, text.as_slice());

    let bytes = capture.bytes();
    assert!(bytes.len() > 300_000);
    // only the hellos are meant to be read
    assert!(bytes.windows(5).any(|window| window == b"web-2"));
    for piece in text.windows(6) {
        assert!(!bytes.windows(6).any(|window| window == piece), "{:?}", std::str::from_utf8(piece));
    }
}

#[tokio::test]
async fn what_was_recorded_can_not_be_played_again() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let mut service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, CALM);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    web.client.send(1, Bytes::from_static(b"run now")).unwrap();
    assert_eq!(next_envelopes(&mut receiver).await[0].body, b"run now".as_slice());
    drop(web);

    let before = service.server.counters();
    let mut replayed = connect(&back).await;
    for (way, recorded) in proxy.frames() {
        if way == Way::ToService {
            // the service may have closed by now
            let _ = replayed.send(&recorded).await;
        }
    }
    // it answers hello and handshake, as to anybody who repeats a hello; then nothing opens
    while let Ok(Some(_)) = soon("the end", replayed.recv()).await {}
    drop(replayed);
    still_serves(&mut service, &b).await;
    let after = service.server.counters();
    assert_eq!(after.handshakes_refused, before.handshakes_refused + 1);
    assert!(service.links.try_recv().is_err());
}

#[tokio::test]
async fn a_tampered_frame_ends_the_link_and_gives_nothing() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let mut service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, CALM);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    proxy.fault(Way::ToService, Fault::Tamper);
    web.client.send(1, Bytes::from_static(b"pay 10")).unwrap();
    loop {
        match soon("an error", receiver.recv()).await {
            Ok(Some(batch)) => assert!(batch.is_empty()),
            Ok(None) => panic!("closed properly"),
            Err(error) => break assert!(error.to_string().contains("does not open"), "{error}"),
        }
    }
    web.down().await;
    web.up().await;
}

#[tokio::test]
async fn either_may_start_first_and_a_restart_is_noticed_within_two_seconds() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let log = Log::capture();
    let endpoint = place.endpoint();
    let mut web = Web::start(&endpoint, &b, CALM);
    let status = web.status("attempts in vain", |status| status.attempts >= 3).await;
    assert!(status.error.unwrap().contains("nobody listens at pipe:"));
    let mut service = Service::start(&endpoint, &a).await;
    let link = service.link().await;
    web.up().await;
    service.stop().await;
    drop(link);
    web.down().await;
    web.status("attempts in vain", |status| status.attempts >= 3).await;
    let mut service = Service::start(&endpoint, &a).await;
    let returned = Instant::now();
    web.live().await;
    assert!(returned.elapsed() < Duration::from_secs(2), "{:?}", returned.elapsed());
    web.up().await;
    service.link().await;

    // one line says that it is away, one that it is back; none is there for an attempt
    let lines = log.lines();
    assert!(lines[0].starts_with("WARN messenger: no link to pipe:"), "{lines:#?}");
    assert!(lines[1].starts_with("INFO messenger: link to service-1 is up after "), "{lines:#?}");
    assert!(lines.len() <= 4, "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_is_two_lines() {
    let (place, [a, b]) = (Place::memory(), same_keys());
    let log = Log::capture();
    let endpoint = place.endpoint();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (sender, mut receiver) = service.link().await;
    web.up().await;
    let ten_minutes = tokio::time::sleep(Duration::from_mins(10));
    let reading = async { while receiver.recv().await.unwrap().is_some() {} };
    tokio::select! {
        () = reading => panic!("the link ended"),
        () = ten_minutes => {}
    }
    service.stop().await;
    drop((sender, receiver));
    web.down().await;
    // some minutes, which pass at once
    web.client.status().wait_for(|status| status.attempts >= 200).await.unwrap();
    let mut service = Service::start(&endpoint, &a).await;
    web.up().await;
    service.link().await;
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("INFO messenger: link to service-1 at memory:"));
    assert!(lines[1].starts_with("WARN messenger: link to memory:") && lines[1].contains("dialling again"));
    assert!(lines[2].contains("is up after 20") && lines[2].contains("failed attempts in"), "{}", lines[2]);
}

#[tokio::test]
async fn a_move_keeps_the_old_link_until_the_new_one_is_up() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (first, second, nowhere) = (place.endpoint(), place.endpoint(), place.endpoint());
    let mut service = Service::start(&first, &a).await;
    let mut other = Service::start(&second, &a).await;
    let mut web = Web::start(&first, &b, CALM);
    let (mut sender, mut receiver) = service.link().await;
    web.up().await;

    let error = web.client.redial(nowhere.clone()).await.unwrap_err();
    assert!(error.to_string().contains(&nowhere.to_string()), "{error}");
    sender.send(&[numbered(1)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 1);
    let status = web.live().await;
    assert_eq!((status.endpoint, status.attempts), (first.to_string(), 0));

    web.client.redial(second.clone()).await.unwrap();
    let (mut sender, _other_receiver) = other.link().await;
    assert!(ending(&mut receiver).await.is_ok());
    // no Down in between
    web.up().await;
    assert_eq!(web.live().await.endpoint, second.to_string());
    sender.send(&[numbered(2)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 2);
}

#[tokio::test]
async fn who_is_not_the_primary_gets_no_link() {
    let (place, [a, b], log) = (Place::pipe(), same_keys(), Log::capture());
    let (first, second) = (place.endpoint(), place.endpoint());
    let primary = |id: &str| Target { endpoint: second.clone(), primary: Some(NodeId::new(id)) };
    let mut service = Service::start(&first, &a).await;
    let mut other = Service::start(&second, &a).await;
    let mut web = Web::start(&first, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;

    let refused = format!(
        "service-1 answers at {second}, which is not the primary service-2: correct service-2's address on the Nodes page"
    );
    assert_eq!(web.client.redial(primary("service-2")).await.unwrap_err().to_string(), refused);
    // the old link is there still, and the other end has none
    sender.send(&[numbered(1)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 1);
    assert_eq!(web.live().await.endpoint, first.to_string());
    assert!(other.links.try_recv().is_err());

    web.client.redial(primary("service-1")).await.unwrap();
    let _link = other.link().await;
    web.up().await;
    let lines = log.lines();
    let told = format!("INFO messenger: the link leads to service-1 at {second} now");
    assert!(lines.contains(&told), "{lines:#?}");
    web.shutdown.stop();

    // nor does one that has none yet; who is right is taken as soon as it is said
    let mut web = Web::start(primary("service-2"), &b, CALM);
    let status = web.status("a refusal", |status| status.error.is_some()).await;
    assert_eq!((status.state, status.error.as_deref()), (LinkState::Down, Some(refused.as_str())));
    web.client.redial(primary("service-1")).await.unwrap();
    web.up().await;
}

#[tokio::test]
async fn a_move_while_nothing_is_up_goes_to_the_new_endpoint() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (nowhere, somewhere) = (place.endpoint(), place.endpoint());
    let mut web = Web::start(&nowhere, &b, CALM);
    web.status("attempts in vain", |status| status.attempts >= 2).await;
    let mut service = Service::start(&somewhere, &a).await;
    soon("a move", web.client.redial(somewhere)).await.unwrap();
    service.link().await;
    web.up().await;
}

#[tokio::test]
async fn listening_moves_without_losing_links_and_stays_if_it_can_not() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let (first, second, taken) = (place.endpoint(), place.endpoint(), place.endpoint());
    let mut service = Service::start(&first, &a).await;
    let _other = Service::start(&taken, &a).await;
    let mut web = Web::start(&first, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;

    assert!(service.server.relisten(taken).await.is_err());
    assert_eq!(service.server.endpoint(), first);
    still_serves(&mut service, &b).await;
    service.server.relisten(second.clone()).await.unwrap();
    assert_eq!(service.server.endpoint(), second);
    let Endpoint::Pipe(old) = &first else { panic!() };
    assert!(!old.exists());
    // the link that was up stays up, and the next comes to the new place
    sender.send(&[numbered(1)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 1);
    still_serves(&mut service, &b).await;
    service.server.relisten(second).await.unwrap();
    still_serves(&mut service, &b).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_beats_in_small_frames_and_measures_latency() {
    let (place, [a, b]) = (Place::memory(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let mut service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, CALM);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    let before = proxy.frames().len();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(150) {
        assert_eq!(soon("a beat", receiver.recv()).await.unwrap(), Some(Vec::new()));
    }
    let frames = proxy.frames().split_off(before);
    assert!((20..=24).contains(&frames.len()), "{} frames in ten beats", frames.len());
    assert!(frames.iter().all(|(_, frame)| frame.len() + 4 <= 100));
    assert!(web.live().await.latency.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_pace_is_told_at_once() {
    let (place, [a, b]) = (Place::memory(), same_keys());
    let (front, back) = (place.endpoint(), place.endpoint());
    let mut service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, CALM);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    assert_eq!(receiver.recv().await.unwrap(), Some(Vec::new()));
    let brisk = Pace { beat: Duration::from_secs(1), silence: Duration::from_secs(4) };
    web.client.set_pace(brisk);
    assert_eq!(receiver.recv().await.unwrap(), Some(Vec::new()));
    proxy.fault(Way::ToService, Fault::Swallow);
    let began = tokio::time::Instant::now();
    assert!(matches!(ending(&mut receiver).await, Err(Error::Silent(limit)) if limit == brisk.silence));
    assert!(began.elapsed() <= brisk.silence + Duration::from_millis(10));
    web.down().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_is_renewed_after_a_day() {
    let (place, [a, b]) = (Place::memory(), same_keys());
    let mut service = Service::start(&place.endpoint(), &a).await;
    let slow = Pace { beat: Duration::from_mins(10), silence: Duration::from_mins(30) };
    let mut web = Web::start(service.server.endpoint(), &b, slow);
    let (_sender, mut receiver) = service.link().await;
    web.up().await;
    let began = tokio::time::Instant::now();
    let reading = async { while receiver.recv().await.unwrap().is_some() {} };
    // the new link first, then the old is closed; nothing was down in between
    let renewed = async {
        let next = web.incoming.recv().await;
        assert!(matches!(next, Some(Incoming::Up(_))), "{next:?}");
    };
    tokio::join!(reading, renewed);
    let day = Duration::from_hours(24);
    assert!((day..day + slow.beat * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    service.link().await;
}

#[tokio::test]
async fn a_button_makes_the_next_attempt_now() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let endpoint = place.endpoint();
    let mut web = Web::start(&endpoint, &b, CALM);
    // by now the pauses between attempts are about a second
    web.status("attempts in vain", |s| s.attempts >= 6 && s.state == LinkState::Down).await;
    let mut service = Service::start(&endpoint, &a).await;
    web.client.reconnect();
    service.link().await;
    web.up().await;
    web.client.reconnect();
    web.client.send(1, Bytes::from_static(b"still the same link")).unwrap();
    assert_eq!(web.live().await.attempts, 0);
}

/// Every state a link was in, a run of the same once, until it is as wanted; and since when it said to be away.
async fn states(web: &Web, until: impl Fn(&LinkStatus) -> bool) -> (Vec<LinkState>, BTreeSet<Timestamp>) {
    let mut told = web.client.status();
    let (mut states, mut away_since) = (Vec::new(), BTreeSet::new());
    loop {
        let now = told.borrow_and_update().clone();
        if states.last() != Some(&now.state) {
            states.push(now.state);
        }
        if now.state != LinkState::Live {
            away_since.insert(now.since);
        }
        if until(&now) {
            return (states, away_since);
        }
        soon("a change", told.changed()).await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_has_one_beginning_and_its_state_does_not_flicker() {
    use LinkState::{Connecting, Down, Live};
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let endpoint = place.endpoint();
    let mut web = Web::start(&endpoint, &b, CALM);
    let (seen, away_since) = states(&web, |status| status.attempts >= 4 && status.next_attempt_at.is_some()).await;
    assert!(matches!(seen.as_slice(), [Connecting, Down] | [Down]), "{seen:?}");
    assert_eq!(away_since.len(), 1, "attempts don't move its beginning: {away_since:?}");

    let mut service = Service::start(&endpoint, &a).await;
    web.client.reconnect();
    let link = service.link().await;
    web.up().await;
    let (seen, _) = states(&web, |status| status.state == Live).await;
    assert!(!seen.contains(&Connecting), "{seen:?}");
    drop(link);
    service.stop().await;
    let lost = SystemClock.now();
    let (seen, away_since) = states(&web, |status| status.attempts >= 4).await;
    assert!(seen.ends_with(&[Down]) && seen.iter().filter(|state| **state == Down).count() == 1, "{seen:?}");
    let [since] = Vec::from_iter(away_since)[..] else { panic!("one beginning") };
    assert!(since.since(lost).max(lost.since(since)) < Duration::from_secs(5), "{since} is when it was lost");
}

#[tokio::test]
async fn a_node_that_stops_ends_its_tasks_and_tells_its_peer() {
    let (place, [a, b]) = (Place::pipe(), same_keys());
    let mut service = Service::start(&place.endpoint(), &a).await;
    let mut web = Web::start(service.server.endpoint(), &b, CALM);
    let (sender, mut receiver) = service.link().await;
    web.up().await;
    let mut stranger = connect(&service.server.endpoint()).await;
    web.shutdown.stop();
    assert_eq!(web.shutdown.finished(Duration::from_secs(10)).await, Ok(()));
    assert!(ending(&mut receiver).await.is_ok());
    assert_eq!(web.client.status().borrow().state, LinkState::Down);
    assert!(web.client.send(1, Bytes::new()).is_err());
    drop((sender, receiver));
    service.stop().await;
    assert_eq!(frame(&mut stranger).await, None);
}
