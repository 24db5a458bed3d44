//! The live side, from the logging call to the browser: real nodes, real sockets, one process.

mod stage;
mod standing;
mod tab;

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use switchboard::control::Actor;
use switchboard::live::filter::LineFilter;
use switchboard::model::execution::Cause;
use switchboard::model::log_entry::Level;
use switchboard::model::user::ServiceRole;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use self::stage::{Stage, entry};
use self::tab::{PATIENCE, Tab, refused, request};

/// Waits until something is so, looking again and again.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_and_a_line_reach_the_browser() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.follow_status().await;
    while tab.summary["state"] == "gone" || tab.rows.is_empty() {
        tab.next().await.unwrap();
    }
    assert_eq!(tab.link["state"], "live");
    assert!(tab.rows.values().all(|html| html.starts_with("<tr id=\"d-")), "{:?}", tab.rows);
    tab.follow_log(None).await;
    stage.write("hello <b>there</b>");
    tab.until(|message| message.to_string().contains("hello <b>there</b>")).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_pages_with_a_session_get_in() {
    let stage = Stage::begin().await;
    let changed = |name: &'static str, value: Option<&str>| {
        let mut request = request(&stage);
        match value {
            Some(value) => request.headers_mut().insert(name, value.parse().unwrap()),
            None => request.headers_mut().remove(name),
        };
        request
    };
    assert_eq!(refused(changed("cookie", None)).await, 401);
    assert_eq!(refused(changed("cookie", Some("switchboard_session=0000"))).await, 401);
    assert_eq!(refused(changed("origin", Some("http://evil.example"))).await, 403);
    assert_eq!(refused(changed("origin", Some("null"))).await, 403);
    assert_eq!(refused(changed("origin", None)).await, 403);
    assert_eq!(refused(changed("sec-fetch-site", Some("cross-site"))).await, 403);

    let mut by_token = changed("cookie", None);
    by_token.headers_mut().remove("origin");
    let token = stage.token(ServiceRole::AdminViewer).await;
    by_token.headers_mut().insert("x-api-key", token.parse().unwrap());
    assert_eq!(refused(by_token.clone()).await, 101);
    by_token.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
    assert_eq!(refused(by_token.clone()).await, 403, "a foreign page is refused in any case");
    by_token.headers_mut().remove("origin");
    let metrics = stage.token(ServiceRole::MetricsViewer).await;
    by_token.headers_mut().insert("x-api-key", metrics.parse().unwrap());
    assert_eq!(refused(by_token.clone()).await, 403);
    by_token.headers_mut().insert("x-api-key", "nonsense".parse().unwrap());
    assert_eq!(refused(by_token).await, 401);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_fifty_tabs() {
    let stage = Stage::begin().await;
    let mut tabs = Vec::new();
    for _ in 0..50 {
        tabs.push(Tab::connect(&stage).await);
    }
    assert_eq!(refused(request(&stage)).await, 429);
    tabs.pop();
    eventually("a seat became free", async || (refused(request(&stage)).await == 101).then_some(())).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_must_not_say_ends_the_socket_in_words() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.wire.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(tab.goodbye().await, ("bad-message".into(), 1003));

    for nonsense in [r#"{"t":"dance"}"#, "", "[]", r#"{"t":"ack","seq":-1}"#] {
        let mut tab = Tab::open(&stage).await;
        tab.wire.send(Message::text(nonsense)).await.unwrap();
        assert_eq!(tab.goodbye().await, ("bad-message".into(), 1008), "{nonsense}");
    }

    let mut tab = Tab::connect(&stage).await;
    tab.say(json!({"t": "sub", "topic": "status"})).await;
    assert_eq!(tab.goodbye().await, ("bad-message".into(), 1008), "no hello");

    let mut tab = Tab::connect(&stage).await;
    tab.say(json!({"t": "hello", "v": 2})).await;
    assert_eq!(tab.goodbye().await, ("version".into(), 1008));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_ten_megabytes_is_not_even_read() {
    let stage = Stage::begin().await;
    let tab = Tab::open(&stage).await;
    let (mut says, mut hears) = tab.wire.split();
    let writing = async {
        let _ = says.send(Message::text("x".repeat(10 << 20))).await;
        std::future::pending::<()>().await;
    };
    let reading = async {
        loop {
            match hears.next().await {
                Some(Ok(Message::Close(Some(close)))) => return u16::from(close.code),
                Some(Ok(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    };
    let code = tokio::select! {
        () = writing => unreachable!("it never ends"),
        code = timeout(PATIENCE, reading) => code.unwrap(),
    };
    assert_eq!(code, 1009);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_work_on_the_server_and_count_what_they_hide() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    let wish = json!({"t": "sub", "topic": "log", "level": "info", "sources": ["alpha"], "q": "disk [0-9]+"});
    tab.say(wish).await;
    stage.log().push(entry(Level::Info, "alpha", "disk 12"));
    stage.log().push(entry(Level::Info, "beta", "disk 13"));
    stage.log().push(entry(Level::Info, "alpha", "disk full"));
    stage.log().push(entry(Level::Error, "alpha", "Disk 14"));
    tab.until(|message| message.to_string().contains("Disk 14")).await;
    assert_eq!(tab.account.texts, ["disk 12", "Disk 14"]);

    tab.say(json!({"t": "sub", "topic": "log", "q": "a(b"})).await;
    let bad = tab.until(|message| message["t"] == "bad").await;
    assert_eq!(bad["field"], "q");
    assert!(bad["text"].as_str().unwrap().contains("unclosed"), "{bad}");
    stage.log().push(entry(Level::Info, "alpha", "disk 15"));
    tab.until(|message| message.to_string().contains("disk 15")).await;

    tab.account = tab::Account::default();
    tab.say(json!({"t": "sub", "topic": "log", "q": "disk", "inverse": true, "sources": ["alpha", "beta"]})).await;
    stage.log().push(entry(Level::Warn, "beta", "something else"));
    tab.until(|message| message.to_string().contains("something else")).await;
    assert_eq!(tab.account.texts, ["something else"]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_two_hundred_reconnects_nothing_is_lost_and_nothing_comes_twice() {
    let stage = Stage::begin().await;
    let log = stage.log().clone();
    let epoch = log.epoch().to_string();
    stage.write("first");
    let mut account = tab::Account::default();
    for turn in 0..200_u64 {
        let mut tab = Tab::open(&stage).await;
        tab.account = account;
        tab.follow_log(tab.account.since()).await;
        for n in 0..10 {
            log.push(entry(Level::Info, "test", &format!("{turn}/{n}")));
        }
        // some tabs leave in the middle, without a word
        if turn % 3 == 0 {
            tab.next().await.unwrap();
        } else {
            tab.read_to(&epoch, log.last()).await;
        }
        account = tab.account;
    }
    let mut tab = Tab::open(&stage).await;
    tab.account = account;
    tab.follow_log(tab.account.since()).await;
    stage.write("last");
    tab.until(|message| message.to_string().contains("\"last\"")).await;
    let told = &tab.account;
    assert_eq!((told.lost, told.hidden, told.restarts), (0, 0, 0));
    let ours: Vec<&String> = told.texts.iter().filter(|text| text.contains('/') && text.len() < 8).collect();
    let expected: Vec<String> = (0..200).flat_map(|turn| (0..10).map(move |n| format!("{turn}/{n}"))).collect();
    assert_eq!(ours, expected.iter().collect::<Vec<_>>());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_tab_stops_nobody_and_learns_what_it_missed() {
    let stage = Stage::begin().await;
    stage.web.hub.resize_log(1000, usize::MAX);
    let log = stage.log().clone();
    let epoch = log.epoch().to_string();
    stage.write("first");
    let (mut quick, mut stalled) = (Tab::open(&stage).await, Tab::open(&stage).await);
    for tab in [&mut quick, &mut stalled] {
        tab.follow_log(None).await;
        tab.until(|message| message.to_string().contains("\"first\"")).await;
    }
    for n in 0..20_000 {
        log.push(entry(Level::Info, "test", &format!("{n}")));
        if n % 100 == 99 {
            // neither acknowledges nor reads: the other one gets everything
            quick.read_to(&epoch, log.last()).await;
        }
    }
    assert_eq!(quick.account.lost, 0);
    // what the stalled one has not acknowledged is bounded: it has at most the window and one batch
    let mut came = 0;
    while came < 2000 {
        stalled.next().await.unwrap();
        came = stalled.account.lines;
    }
    assert!(came <= 2500 && stalled.account.lost == 0, "{came} lines without an acknowledgement");
    stalled.acknowledge().await;
    stalled.read_to(&epoch, log.last()).await;
    let told = stalled.account;
    assert!(told.lost > 0 || told.lines >= 20_000, "what made room is told, or came from the kept lines");
    let first = quick.account.texts.len() as u64;
    assert!(told.lines + told.lost + told.hidden + 300 >= first, "{told:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_place_is_filled_from_kept_lines_first() {
    let stage = Stage::begin().await;
    stage.web.hub.resize_log(20, usize::MAX);
    let mut watching = Tab::open(&stage).await;
    watching.follow_log(None).await;
    let epoch = stage.log().epoch().to_string();
    for n in 0..300 {
        stage.write(&format!("line {n}"));
    }
    let last = stage.log().last();
    watching.read_to(&epoch, last).await;
    // the service node writes them down in batches
    eventually("lines are kept", async || {
        let (rows, _) = stage.web.store.kept_total().await.unwrap();
        (rows >= 300).then_some(())
    })
    .await;
    let mut tab = Tab::open(&stage).await;
    tab.account.place = Some((epoch.clone(), 0));
    tab.follow_log(Some(format!("{epoch}:0"))).await;
    tab.read_to(&epoch, last).await;
    assert_eq!(tab.account.lost, 0, "{:?}", tab.account);
    let ours = tab.account.texts.iter().filter(|text| text.starts_with("line ")).count();
    assert_eq!(ours, 300);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_made_room_at_the_service_node_before_anybody_watched_comes_from_kept_lines() {
    let stage = Stage::begin().await;
    let log = stage.log();
    for n in 0..300 {
        stage.write(&format!("line {n}"));
    }
    let (epoch, last) = (log.epoch().to_string(), log.last());
    eventually("lines are kept", async || {
        let (rows, _) = stage.web.store.kept_total().await.unwrap();
        (rows >= 300).then_some(())
    })
    .await;
    log.resize(20, 64 << 20);
    let _watching = stage.web.hub.watch();
    let held = || stage.web.hub.lines(None, &LineFilter::default(), 1000);
    eventually("the rest of the ring has come", async || (held().next == last).then_some(())).await;
    assert_eq!((held().lines.len(), held().gap.unwrap().to), (20, last - 20), "the first batch tells of a gap");

    let mut newest = Tab::open(&stage).await;
    newest.follow_log(None).await;
    newest.read_to(&epoch, last).await;
    assert_eq!((newest.account.lost, newest.account.texts.len()), (0, 200), "{:?}", newest.account);

    let mut all = Tab::open(&stage).await;
    all.account.place = Some((epoch.clone(), 0));
    all.follow_log(all.account.since()).await;
    all.read_to(&epoch, last).await;
    let ours = all.account.texts.iter().filter(|text| text.starts_with("line ")).count();
    assert_eq!((all.account.lost, ours), (0, 300), "{:?}", all.account);

    let text = http().get(stage.url("/logs.txt")).header("cookie", &stage.cookie).send().await.unwrap().text().await;
    let text = text.unwrap();
    assert!(!text.contains("can't be had"), "{text}");
    assert_eq!(text.matches("| line ").count(), 300);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_without_the_kept_lines_says_so() {
    let stage = Stage::begin().await;
    let _watching = stage.web.hub.watch();
    stage.write("held");
    let held = || stage.web.hub.lines(None, &LineFilter::default(), 1000).lines;
    eventually("the line has come", async || held().iter().any(|(_, entry, _)| *entry.text == *"held").then_some(()))
        .await;
    let get = async |query: &str| {
        let request = http().get(stage.url(&format!("/logs.txt{query}"))).header("cookie", &stage.cookie);
        request.send().await.unwrap().text().await.unwrap()
    };
    assert!(!get("").await.contains("---"), "all is well");

    let mut stranger = stage.stranger().await;
    sqlx::query("alter table log_rows rename to mislaid").execute(&mut stranger).await.unwrap();
    let text = get("").await;
    assert!(text.starts_with("--- lines that were kept can't be read now"), "{text}");
    assert!(text.contains("| held"), "what is held is better than nothing: {text}");
    // of this life only kept lines could tell
    let text = get("?since=00000000000000aa:5").await;
    assert!(text.ends_with("--- ended: the lines that were kept can't be read now; ask again ---\n"), "{text}");

    sqlx::query("alter table mislaid rename to log_rows").execute(&mut stranger).await.unwrap();
    assert!(!get("").await.contains("can't be read"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_that_the_service_is_gone_and_it_comes_back_alone() {
    let mut stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.follow_status().await;
    stage.write("before");
    tab.follow_log(None).await;
    tab.until(|message| message.to_string().contains("\"before\"")).await;
    while tab.rows.is_empty() {
        tab.next().await.unwrap();
    }
    let started = Instant::now();
    stage.stop_service().await;
    let gone = tab.until(|message| message["summary"]["state"] == "gone").await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(gone["link"]["stale"].as_str().is_some_and(|text| !text.is_empty()), "{gone}");
    assert!(!tab.rows.is_empty(), "what the store knows is shown");

    stage.start_service().await;
    tab.until(|message| message["summary"]["state"] != "gone" && !message["summary"].is_null()).await;
    stage.write("after");
    tab.until(|message| message.to_string().contains("\"after\"")).await;
    assert_eq!(tab.account.restarts, 1);
    assert_eq!(tab.link["stale"], "");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_missed_a_whole_life_is_told_of_it() {
    let mut stage = Stage::begin().await;
    stage.write("first life");
    let mut tab = Tab::open(&stage).await;
    tab.follow_log(None).await;
    tab.until(|message| message.to_string().contains("first life")).await;
    let account = tab.account.clone();
    drop(tab);
    stage.stop_service().await;
    stage.start_service().await;
    stage.write("second life");
    stage.stop_service().await;
    stage.start_service().await;
    stage.write("third life");
    let mut tab = Tab::open(&stage).await;
    tab.account = account;
    tab.follow_log(tab.account.since()).await;
    tab.until(|message| message.to_string().contains("third life")).await;
    assert!(tab.account.restarts >= 1);
    assert!(tab.account.texts.iter().any(|text| text == "second life"), "{:?}", tab.account.texts);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_out_is_told_within_five_seconds() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.follow_status().await;
    let cookie = stage.cookie.split_once('=').unwrap().1;
    stage.web.sign_in.leave(cookie, "127.0.0.1").await.unwrap();
    let left = Instant::now();
    assert_eq!(tab.goodbye().await, ("signed-out".into(), 1008));
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_stop_says_goodbye() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    stage.shutdown.stop();
    assert_eq!(tab.goodbye().await, ("draining".into(), 1001));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_poll_brings_the_same() {
    let stage = Stage::begin().await;
    let http = http();
    let ask = async |query: String| {
        let request = http.get(stage.url(&format!("/status/poll?{query}"))).header("cookie", &stage.cookie);
        let answer = timeout(PATIENCE + PATIENCE, request.send()).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        serde_json::from_str::<Vec<Value>>(&answer.text().await.unwrap()).unwrap()
    };
    stage.write("polled 0");
    let mut account = tab::Account::default();
    let mut version = 0;
    let mut n = 0;
    while account.texts.iter().filter(|text| text.starts_with("polled")).count() < 5 {
        let since = account.since().unwrap_or_default();
        let messages = ask(format!("version={version}&log=1&since={since}")).await;
        assert_eq!(messages[0]["t"], "hello");
        for message in &messages {
            account.take(message);
            version = message["version"].as_u64().unwrap_or(version);
        }
        if account.texts.iter().any(|text| *text == format!("polled {n}")) {
            n += 1;
            stage.write(&format!("polled {n}"));
        }
    }
    assert!(version > 0);
    assert_eq!((account.lost, account.hidden), (0, 0));

    let status = async |query: &str, cookie: &str| {
        http.get(stage.url(&format!("/status/poll?{query}"))).header("cookie", cookie).send().await.unwrap().status()
    };
    assert_eq!(status("", "").await, 401);
    assert_eq!(status("log=1&q=a(b", &stage.cookie).await, 400);
    assert_eq!(status("log=1&since=nonsense", &stage.cookie).await, 400);
    assert_eq!(status("log=1&level=loud", &stage.cookie).await, 400);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_follows_and_obeys_nothing() {
    let stage = Stage::begin().await;
    let http = http();
    let token = stage.token(ServiceRole::AdminViewer).await;
    stage.write("before \u{1b}[31mred");
    let request = http.get(stage.url("/logs.txt?follow=1&source=test")).header("x-api-key", &token);
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut text = String::new();
    let mut written = 0;
    while !text.contains("line 3") {
        let chunk = timeout(PATIENCE, answer.chunk()).await.expect("a line in time").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        written += 1;
        stage.write(&format!("line {written}"));
    }
    assert!(text.contains("before ␛[31mred") && text.contains("| line 1\n"), "{text}");
    let request = http.get(stage.url("/logs.txt?source=test")).header("x-api-key", &token);
    let file = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(file.matches("line 1\n").count(), 1, "{file}");
    assert_eq!(http.get(stage.url("/logs.txt")).send().await.unwrap().status(), 401);
    stage.end().await;
}

/// Follows the text with a token, as curl does, and writes lines faster than anybody reads.
async fn flooded(stage: &Stage, token: &str) -> (reqwest::Response, tokio::task::JoinHandle<()>) {
    let request = http().get(stage.url("/logs.txt?follow=1")).header("x-api-key", token);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let log = stage.log().clone();
    let flood = stage.shutdown.spawn("flood", async move {
        loop {
            for _ in 0..100 {
                log.push(entry(Level::Info, "test", &"x".repeat(2000)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    (answer, flood)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_ends_with_its_token_though_its_reader_is_behind() {
    let stage = Stage::begin().await;
    let token = stage.token(ServiceRole::AdminViewer).await;
    let (mut answer, flood) = flooded(&stage, &token).await;
    answer.chunk().await.unwrap().unwrap();
    let all = Actor { who: "cli:0".into(), address: "local".into(), roles: vec![ServiceRole::ServiceAdmin] };
    stage.web.control.new_token(&all, "script-admin_viewer").await.unwrap();
    let revoked = Instant::now();
    // reads on, slower than the lines come: there is always more at once
    let mut last = Vec::new();
    let mut read = async |pause| {
        let chunk = timeout(PATIENCE, answer.chunk()).await.expect("a line or the end").unwrap();
        last.extend_from_slice(chunk.as_deref().unwrap_or_default());
        last.drain(..last.len().saturating_sub(200));
        tokio::time::sleep(pause).await;
        chunk.is_some()
    };
    while stage.web.viewers.count() > 0 {
        assert!(read(Duration::from_millis(20)).await, "the reason comes after the last seat is free");
        // looked at every 4 s, promised within 5; a machine that is busy with other tests may take two more
        assert!(revoked.elapsed() < Duration::from_secs(7), "it goes on");
    }
    // what was on its way already
    while read(Duration::ZERO).await {}
    assert!(String::from_utf8_lossy(&last).ends_with("sign in again ---\n"), "{}", String::from_utf8_lossy(&last));
    flood.abort();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_nobody_takes_is_ended_with_the_reason() {
    let stage = Stage::begin().await;
    let token = stage.token(ServiceRole::AdminViewer).await;
    let (mut answer, flood) = flooded(&stage, &token).await;
    answer.chunk().await.unwrap().unwrap();
    let free = async {
        while stage.web.viewers.count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(40), free).await.expect("its seat is free after 20 s");
    flood.abort();
    let mut last = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, answer.chunk()).await.expect("the end").unwrap() {
        last.extend_from_slice(&chunk);
        last.drain(..last.len().saturating_sub(200));
    }
    assert!(
        String::from_utf8_lossy(&last).contains("--- ended: nothing was taken for 20 s"),
        "{}",
        String::from_utf8_lossy(&last)
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_of_a_text_are_refused_in_words() {
    let stage = Stage::begin().await;
    let token = stage.token(ServiceRole::AdminViewer).await;
    for (query, words) in [
        ("follow=yes", "follow: `yes` is not allowed; write 1 for yes"),
        ("inverse=2", "inverse: `2` is not allowed"),
        ("execution=x", "execution: `x` is not allowed; a whole number"),
        ("level=loud", "levels are trace, debug, info, warn and error"),
        ("level=warn&level=info", "level: only one value"),
        ("since=yesterday", "since: "),
        ("q=a(b", "q: this is no regular expression"),
    ] {
        let answer = http().get(stage.url(&format!("/logs.txt?{query}"))).header("x-api-key", &token);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(words) && !text.contains("deserialize"), "{query}: {text}");
        let page = http().get(stage.url(&format!("/logs.txt?{query}"))).header("cookie", &stage.cookie);
        let page = page.header("accept", "text/html").send().await.unwrap().text().await.unwrap();
        assert!(
            page.contains("<html") && page.contains(words.split('`').next().unwrap()),
            "{query} in a browser: {page}"
        );
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_shows_in_the_row() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.follow_status().await;
    let actor = Actor { who: "ann".into(), address: "test".into(), roles: vec![ServiceRole::ServiceAdmin] };
    for (word, pause) in [("state-paused", true), ("state-idle", false), ("state-paused", true)] {
        if pause {
            stage.web.control.pause(&actor, "clean-up").await.unwrap();
        } else {
            stage.web.control.resume(&actor, "clean-up").await.unwrap();
        }
        while !tab.rows.get("d-clean-up").is_some_and(|html| html.contains(word)) {
            tab.next().await.unwrap();
        }
    }
    stage.end().await;
}

/// A page, as it comes without scripts.
async fn page(stage: &Stage, path: &str) -> String {
    let request = http().get(stage.url(path)).header("cookie", &stage.cookie);
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_one_dispatcher_follows_its_row_and_its_history_as_they_were_first_painted() {
    let stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.say(json!({"t": "sub", "topic": "status", "dispatcher": "clean-up"})).await;
    tab.until(|message| message["t"] == "history").await;
    let actor = Actor { who: "ann".into(), address: "test".into(), roles: vec![ServiceRole::ServiceAdmin] };
    let asked = stage.web.control.run(&actor, "clean-up", Cause::Manual, None, None).await.unwrap();
    let run = format!("href=\"/executions/{}\"", asked.execution.id);
    let grown = |message: &Value| message["t"] == "history" && message["html"].as_str().unwrap().contains(&run);
    let mut history = tab.until(grown).await;
    while history["html"].as_str().unwrap().contains("/cancel\"") {
        history = tab.until(grown).await;
    }
    // the row comes by another way, and may come later
    while !tab.rows.get("d-clean-up").is_some_and(|row| row.contains(&run) && row.contains("state-idle")) {
        tab.next().await.unwrap();
    }
    assert_eq!(tab.rows.keys().collect::<Vec<_>>(), ["d-clean-up"], "and of no other dispatcher");
    assert_eq!((&tab.summary["total"], &history["dispatcher"]), (&json!(1), &json!("clean-up")));
    let first_paint = page(&stage, "/dispatchers/clean-up").await;
    assert!(first_paint.contains(history["html"].as_str().unwrap()), "{first_paint}\n{history}");
    assert!(first_paint.contains(&tab.rows["d-clean-up"]), "{first_paint}\n{}", tab.rows["d-clean-up"]);

    // the long poll brings the same, and a history only if it is another
    let poll = async |query: &str| {
        let request = http().get(stage.url(&format!("/status/poll?{query}"))).header("cookie", &stage.cookie);
        let answer = timeout(PATIENCE + PATIENCE, request.send()).await.unwrap().unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let polled = |text: &str| -> Vec<Value> {
        let messages: Vec<Value> = serde_json::from_str(text).unwrap();
        messages.into_iter().filter(|message| message["t"] == "history").collect()
    };
    let (_, all) = poll("dispatcher=clean-up").await;
    let mark = history["mark"].as_str().unwrap();
    assert_eq!(polled(&all)[0]["mark"], mark);
    let (_, none) = poll(&format!("dispatcher=clean-up&history={mark}")).await;
    assert!(polled(&none).is_empty(), "{none}");
    let (status, text) = poll(&format!("dispatcher={}", "x".repeat(65))).await;
    assert!(status == 400 && text.contains("1 to 64 bytes"), "{status}: {text}");
    tab.say(json!({"t": "sub", "topic": "status", "dispatcher": ""})).await;
    assert_eq!(tab.until(|message| message["t"] == "bad").await["field"], "dispatcher");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_strip_changes_when_the_node_goes_away_and_when_another_life_begins() {
    let mut stage = Stage::begin().await;
    let mut tab = Tab::open(&stage).await;
    tab.follow_status().await;
    while !tab.node.contains("service-1") {
        tab.next().await.unwrap();
    }
    let first_life = tab.node.clone();
    assert!(page(&stage, "/status").await.contains(&first_life), "painted first as it comes later: {first_life}");
    stage.stop_service().await;
    while !tab.node.contains("Not reached") {
        tab.next().await.unwrap();
    }
    assert!(!tab.node.contains("<dt>Up</dt>"), "{}", tab.node);
    let away = eventually("the page says it", async || {
        let page = page(&stage, "/status").await;
        page.contains("Not reached").then_some(page)
    })
    .await;
    assert!(away.contains(&tab.node), "{away}\n{}", tab.node);
    stage.start_service().await;
    while tab.node.contains("Not reached") || tab.node == first_life {
        tab.next().await.unwrap();
    }
    assert!(tab.node.contains("<dt>Up</dt>"), "{}", tab.node);
    stage.end().await;
}
