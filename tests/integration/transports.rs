//! One story that every transport must pass.

use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::messenger::Pace;
use switchboard::messenger::client::LinkState;
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::envelope::MAX_BODY;
use switchboard::messenger::error::Error;
use switchboard::messenger::transport;

use crate::support::proxy::{Fault, FrameProxy, Way};
use crate::support::{CALM, Place, Service, Web, ending, next_envelopes, number, numbered, same_keys, soon};

macro_rules! on_every_transport {
    ($($chapter:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $chapter() { super::$chapter(super::Place::memory()).await; })*
        }
        mod pipe {
            $(#[tokio::test] async fn $chapter() { super::$chapter(super::Place::pipe()).await; })*
        }
        mod tcp {
            $(#[tokio::test] async fn $chapter() { super::$chapter(super::Place::tcp()).await; })*
        }
        mod tcp_ipv6 {
            $(#[tokio::test] async fn $chapter() {
                match super::Place::tcp6() {
                    Some(place) => super::$chapter(place).await,
                    None => eprintln!("not run: this machine has no IPv6"),
                }
            })*
        }
    };
}

on_every_transport! {
    frames_come_whole_and_in_order
    a_listener_that_goes_leaves_nothing_and_its_links_stay
    envelopes_come_in_order_both_ways
    every_size_from_nothing_to_the_limit_and_one_over
    a_close_is_told_after_everything_was_delivered
    half_open_silence_is_noticed_on_both_ends
    garbage_ends_the_link_and_another_follows
    a_repeated_frame_is_dropped_and_counted
    another_key_is_named_by_its_fingerprint_on_both_ends
    a_slow_reader_holds_the_sender_back_and_loses_nothing
    a_link_comes_back_and_counts_from_the_beginning
}

/// A link from a web node to a service node, with a proxy of frames in between.
struct Proxied {
    proxy: FrameProxy,
    service: Service,
    web: Web,
}

async fn through_proxy(endpoints: &Place, pace: Pace) -> Proxied {
    let [a, b] = same_keys();
    let (front, back) = (endpoints.endpoint(), endpoints.endpoint());
    let service = Service::start(&back, &a).await;
    let proxy = FrameProxy::start(&front, &back).await;
    let mut web = Web::start(&front, &b, pace);
    web.up().await;
    Proxied { proxy, service, web }
}

async fn frames_come_whole_and_in_order(place: Place) {
    let endpoint = place.endpoint();
    let transport = transport::to(&endpoint);
    let mut listener = transport.listen().await.unwrap();
    let (ours, theirs) = soon("a link", async { tokio::join!(transport.connect(), listener.accept()) }).await;
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    let lengths = [1, 2, 16, 17, 4095, 4096, 65_534, 65_535];
    let send = async {
        for (byte, len) in lengths.iter().enumerate() {
            ours.send(&vec![u8::try_from(byte).unwrap(); *len]).await.unwrap();
        }
        drop(ours);
    };
    let receive = async {
        for (byte, len) in lengths.iter().enumerate() {
            let frame = theirs.recv().await.unwrap().unwrap();
            assert_eq!(frame, vec![u8::try_from(byte).unwrap(); *len]);
        }
        assert_eq!(theirs.recv().await.unwrap(), None);
    };
    soon("frames", async { tokio::join!(send, receive) }).await;
}

async fn a_listener_that_goes_leaves_nothing_and_its_links_stay(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;
    service.stop().await;
    if let Endpoint::Pipe(path) = &endpoint {
        assert!(!path.exists());
    }
    assert!(transport::to(&endpoint).connect().await.is_err());
    sender.send(&[numbered(1)]).await.unwrap();
    assert_eq!(number(&web.envelopes(1).await[0]), 1);
    assert!(transport::to(&endpoint).listen().await.is_ok());
}

async fn envelopes_come_in_order_both_ways(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, mut receiver) = service.link().await;
    web.up().await;
    let down = async {
        let mut next = 0;
        for size in (0..100).chain([1000]) {
            let batch: Vec<_> = (next..next + size).map(numbered).collect();
            next += size;
            sender.send(&batch).await.unwrap();
        }
        next
    };
    let up = async {
        for number in 0..100 {
            let (kind, body) = numbered(number);
            web.client.send(kind, body).unwrap();
        }
        web.envelopes(99 * 50 + 1000).await
    };
    let back = async {
        let mut all = Vec::new();
        while all.len() < 100 {
            all.extend(next_envelopes(&mut receiver).await);
        }
        all
    };
    let (sent, down, back) = tokio::join!(down, up, back);
    assert_eq!((sent, back.len()), (down.len() as u64, 100));
    for (envelopes, source) in [(down, "service-1"), (back, "web-2")] {
        for (expected, envelope) in (0..).zip(&envelopes) {
            assert_eq!((number(envelope), envelope.sequence), (expected, expected));
            assert_eq!((envelope.kind, envelope.source.as_str()), (1, source));
        }
    }
}

async fn every_size_from_nothing_to_the_limit_and_one_over(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, mut receiver) = service.link().await;
    web.up().await;
    let body = |len: usize| (0..=250).cycle().take(len).collect::<Bytes>();
    // around the ends of one frame and of two, and the limit
    let sizes = [0, 1, 255, 256, 65_489, 65_490, 65_491, 65_535, 65_536, 130_989, 130_990, MAX_BODY - 1, MAX_BODY];
    let batch: Vec<_> = sizes.iter().map(|len| (9, body(*len))).collect();
    let (sent, arrived) = tokio::join!(soon("a batch", sender.send(&batch)), web.envelopes(sizes.len()));
    sent.unwrap();
    for (envelope, (kind, body)) in arrived.iter().zip(&batch) {
        assert_eq!((envelope.kind, envelope.body.len()), (*kind, body.len()));
        assert!(envelope.body == *body);
    }

    let over = [(9, body(5)), (9, body(MAX_BODY + 1))];
    assert!(matches!(sender.send(&over).await, Err(Error::TooLong(len)) if len == MAX_BODY + 1));
    assert!(web.client.send(9, body(MAX_BODY + 1)).is_err());
    web.client.send(9, body(MAX_BODY)).unwrap();
    assert_eq!(next_envelopes(&mut receiver).await[0].body.len(), MAX_BODY);
    sender.send(&[numbered(7)]).await.unwrap();
    let next = web.envelopes(1).await;
    // nothing of the refused batch was sent, and the link went on
    assert_eq!((number(&next[0]), next[0].sequence), (7, sizes.len() as u64));
}

async fn a_close_is_told_after_everything_was_delivered(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, receiver) = service.link().await;
    web.up().await;
    let batch: Vec<_> = (0..500).map(numbered).collect();
    sender.send(&batch).await.unwrap();
    drop((sender, receiver));
    assert_eq!(number(web.envelopes(500).await.last().unwrap()), 499);
    web.down().await;
    // the service still listens, so there is another link; this time the web node closes it
    web.up().await;
    let (_sender, mut receiver) = service.link().await;
    web.client.send(1, Bytes::from_static(b"last")).unwrap();
    assert_eq!(next_envelopes(&mut receiver).await[0].body, b"last".as_slice());
    web.shutdown.stop();
    assert!(ending(&mut receiver).await.is_ok());
    assert_eq!(receiver.recv().await.unwrap(), None);
}

async fn half_open_silence_is_noticed_on_both_ends(place: Place) {
    let silence = Duration::from_millis(400);
    let Proxied { proxy, mut service, mut web } =
        through_proxy(&place, Pace { beat: Duration::from_millis(50), silence }).await;
    let (_sender, mut receiver) = service.link().await;
    proxy.fault(Way::ToService, Fault::Swallow);
    proxy.fault(Way::ToWeb, Fault::Swallow);
    assert!(matches!(ending(&mut receiver).await, Err(Error::Silent(limit)) if limit == silence));
    web.down().await;
    let status = web.status("a reason", |status| status.error.is_some()).await;
    assert_ne!(status.state, LinkState::Live);
    assert!(status.error.unwrap().contains("no answer"));
    proxy.fault(Way::ToService, Fault::Pass);
    proxy.fault(Way::ToWeb, Fault::Pass);
    web.up().await;
}

async fn garbage_ends_the_link_and_another_follows(place: Place) {
    let Proxied { proxy, mut service, mut web } = through_proxy(&place, CALM).await;
    for garbage in [&b"x"[..], &[0x10; 16], &[0x11; 100], &vec![0; 65_535]] {
        let (mut sender, mut receiver) = service.link().await;
        // as the service hears it
        proxy.fault(Way::ToService, Fault::Replace(Bytes::copy_from_slice(garbage)));
        web.client.send(1, Bytes::from_static(b"never arrives")).unwrap();
        let error = ending(&mut receiver).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        // the sender hears of it too, and the web node dials again
        assert!(matches!(soon("a refusal", sender.send(&[numbered(0)])).await, Err(Error::Closed)));
        web.down().await;
        web.up().await;
        // as the web node hears it
        let (mut sender, _receiver) = service.link().await;
        proxy.fault(Way::ToWeb, Fault::Replace(Bytes::copy_from_slice(garbage)));
        sender.send(&[numbered(0)]).await.unwrap();
        web.down().await;
        web.up().await;
    }
}

async fn a_repeated_frame_is_dropped_and_counted(place: Place) {
    let Proxied { proxy, mut service, mut web } = through_proxy(&place, CALM).await;
    let (mut sender, mut receiver) = service.link().await;
    proxy.fault(Way::ToWeb, Fault::Repeat);
    proxy.fault(Way::ToService, Fault::Repeat);
    for number in 0..50 {
        sender.send(&[numbered(number)]).await.unwrap();
    }
    let numbers: Vec<_> = web.envelopes(50).await.iter().map(number).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    assert!(web.client.counters().repeats >= 49);
    web.client.send(1, Bytes::from_static(b"once")).unwrap();
    web.client.send(1, Bytes::from_static(b"and once")).unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        bodies.extend(next_envelopes(&mut receiver).await.into_iter().map(|envelope| envelope.body));
    }
    assert_eq!(bodies, [&b"once"[..], b"and once"]);
    assert!(service.server.counters().repeats >= 1);
}

async fn another_key_is_named_by_its_fingerprint_on_both_ends(place: Place) {
    let endpoint = place.endpoint();
    let ([a], [b]) = (same_keys(), same_keys());
    let service = Service::start(&endpoint, &a).await;
    let web = Web::start(&endpoint, &b, CALM);
    let status = web.status("a mismatch", |status| status.error.is_some()).await;
    let (theirs, ours) = (&a.fingerprint()[..8], &b.fingerprint()[..8]);
    assert_eq!(status.error.unwrap(), format!("key mismatch: web-2 has {ours}…, service-1 has {theirs}…"));
    web.status("another attempt", |status| status.attempts >= 2).await;
    let refusal = service.server.last_refusal().unwrap();
    assert_eq!(refusal, format!("key mismatch: service-1 has {theirs}…, web-2 has {ours}…"));
    assert_eq!(service.server.counters().links, 0);
}

async fn a_slow_reader_holds_the_sender_back_and_loses_nothing(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut service = Service::start(&endpoint, &a).await;
    let mut web = Web::start(&endpoint, &b, CALM);
    let (mut sender, _receiver) = service.link().await;
    web.up().await;
    // the web node takes nothing: within some megabytes the sender must be held back
    let mut sent = 0_u64;
    loop {
        let mut body = vec![0; 64_000];
        body[..8].copy_from_slice(&sent.to_be_bytes());
        let batch = [(1, Bytes::from(body))];
        let sending = sender.send(&batch);
        sent += 1;
        if tokio::time::timeout(Duration::from_millis(500), sending).await.is_err() {
            break;
        }
        assert!(sent < 200, "12.8 MB are on the way and nobody reads");
    }
    // what was given up while it waited goes out with the next, whole and in order
    let finish = async { sender.send(&[(1, Bytes::copy_from_slice(&sent.to_be_bytes()))]).await.unwrap() };
    let count = usize::try_from(sent).unwrap() + 1;
    let (envelopes, ()) = tokio::join!(web.envelopes(count), soon("a sender set free", finish));
    for (expected, envelope) in (0..).zip(&envelopes) {
        let number = u64::from_be_bytes(*envelope.body.first_chunk().unwrap());
        assert_eq!((number, envelope.sequence), (expected, expected));
    }
}

async fn a_link_comes_back_and_counts_from_the_beginning(place: Place) {
    let endpoint = place.endpoint();
    let [a, b] = same_keys();
    let mut web = Web::start(&endpoint, &b, CALM);
    for _ in 0..3 {
        let mut service = Service::start(&endpoint, &a).await;
        let returned = Instant::now();
        let (mut sender, receiver) = service.link().await;
        web.up().await;
        assert!(returned.elapsed() < Duration::from_secs(2), "{:?}", returned.elapsed());
        assert_eq!(web.live().await.attempts, 0);
        sender.send(&[numbered(1), numbered(2)]).await.unwrap();
        let envelopes = web.envelopes(2).await;
        assert_eq!(envelopes.iter().map(|e| e.sequence).collect::<Vec<_>>(), [0, 1]);
        service.stop().await;
        drop((sender, receiver));
        web.down().await;
        // away for a while
        web.status("attempts in vain", |status| status.attempts >= 3).await;
        assert!(web.client.send(1, Bytes::new()).is_err());
    }
}
