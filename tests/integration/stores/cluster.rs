//! Terms of the primary, and what nodes say of themselves and of each other.

use std::time::Duration;

use switchboard::base::id::{Cursor, Epoch, NodeId};
use switchboard::model::execution::{Cause, Outcome};
use switchboard::model::log_entry::{Level, LogEntry};
use switchboard::model::node::NodeLink;
use switchboard::model::setting::NodeSetting;
use switchboard::store::Store;
use switchboard::store::logs::KeptRow;

use super::work::{asked, request};
use super::{Data, at, node};

on_both_databases! {
    a_term_belongs_to_its_number
    a_term_that_is_over_is_free_and_its_holder_may_prolong_it_until_then
    who_hands_over_waits_and_who_is_asked_for_comes_first
    nodes_tell_of_settings_links_and_addresses_until_they_are_removed
    runs_of_silent_nodes_are_given_up_and_may_end_late
    uneventful_runs_make_way_before_others
    kept_rows_of_several_lives_are_read_on_from_any_place
}

const TERM: Duration = Duration::from_mins(1);

fn a() -> NodeId {
    NodeId::new("service-a")
}

fn b() -> NodeId {
    NodeId::new("service-b")
}

/// Takes the term in a transaction of its own, as a node does.
async fn take(store: &Store, node: &NodeId, term: Duration) -> Option<i64> {
    let mut tx = store.begin_unlocked().await.unwrap();
    let fencing = tx.take_lead(node, term, false).await.unwrap();
    tx.commit().await.unwrap();
    fencing
}

async fn holds(store: &Store, node: &NodeId, fencing: i64) -> bool {
    let mut tx = store.begin().await.unwrap();
    let holds = tx.holds_lead(node, fencing).await.unwrap();
    tx.commit().await.unwrap();
    holds
}

async fn renew(store: &Store, node: &NodeId, fencing: i64, term: Duration) -> bool {
    let mut tx = store.begin_unlocked().await.unwrap();
    let renewed = tx.renew_lead(node, fencing, term).await.unwrap();
    tx.commit().await.unwrap();
    renewed
}

async fn release(store: &Store, node: &NodeId, fencing: i64, handing_over: bool) {
    let mut tx = store.begin_unlocked().await.unwrap();
    tx.release_lead(node, fencing, handing_over).await.unwrap();
    tx.commit().await.unwrap();
}

async fn ask(store: &Store, to: Option<&NodeId>) -> bool {
    let mut tx = store.begin().await.unwrap();
    let asked = tx.ask_hand_over("ann", to).await.unwrap();
    tx.commit().await.unwrap();
    asked
}

async fn a_term_belongs_to_its_number(data: Data) {
    let store = data.open().await;
    let nobody = store.leadership().await.unwrap();
    assert_eq!((nobody.primary(), nobody.holder.as_ref()), (None, None));

    let first = take(&store, &a(), TERM).await.unwrap();
    let leadership = store.leadership().await.unwrap();
    assert_eq!((leadership.primary(), leadership.fencing), (Some(&a()), first));
    assert!(leadership.left > TERM / 2 && leadership.left <= TERM && leadership.over_for.is_zero(), "{leadership:?}");
    assert_eq!(take(&store, &b(), TERM).await, None);
    assert!(holds(&store, &a(), first).await);
    assert!(!holds(&store, &b(), first).await && !holds(&store, &a(), first + 1).await);
    assert!(renew(&store, &a(), first, TERM).await);
    assert!(!renew(&store, &b(), first, TERM).await && !renew(&store, &a(), first + 1, TERM).await);

    // the same node, started again: its former process has lost the term
    let second = take(&store, &a(), TERM).await.unwrap();
    assert!(second > first);
    assert!(!holds(&store, &a(), first).await && !renew(&store, &a(), first, TERM).await);
    release(&store, &a(), first, false).await;
    assert!(holds(&store, &a(), second).await, "a former term gives nothing back");
    release(&store, &a(), second, false).await;
    assert_eq!(store.leadership().await.unwrap().primary(), None);
    assert!(take(&store, &b(), TERM).await.unwrap() > second);
}

async fn a_term_that_is_over_is_free_and_its_holder_may_prolong_it_until_then(data: Data) {
    let store = data.open().await;
    let first = take(&store, &a(), Duration::ZERO).await.unwrap();
    assert!(!holds(&store, &a(), first).await, "it is over at once");
    assert_eq!(store.leadership().await.unwrap().primary(), None);
    assert_eq!(store.leadership().await.unwrap().holder, Some(a()), "who was it last");
    assert!(renew(&store, &a(), first, TERM).await, "nobody took it");
    assert!(holds(&store, &a(), first).await);
    assert!(renew(&store, &a(), first, Duration::ZERO).await);
    assert!(holds(&store, &a(), first).await, "its holder relies on it: it does not become shorter");
    release(&store, &a(), first, false).await;

    let second = take(&store, &a(), Duration::ZERO).await.unwrap();
    let third = take(&store, &b(), TERM).await.unwrap();
    assert!(third > second && !renew(&store, &a(), second, TERM).await, "another took it");
    let mut tx = store.begin_unlocked().await.unwrap();
    let alone = tx.take_lead(&a(), TERM, true).await.unwrap();
    tx.commit().await.unwrap();
    assert!(alone.is_some_and(|fencing| fencing > third), "alone, nobody has to be waited for");
}

async fn who_hands_over_waits_and_who_is_asked_for_comes_first(data: Data) {
    let store = data.open().await;
    assert!(!ask(&store, None).await, "nobody is primary");
    let first = take(&store, &a(), TERM).await.unwrap();
    assert!(!ask(&store, Some(&a())).await, "it is already");
    assert!(ask(&store, Some(&b())).await);
    assert_eq!(store.leadership().await.unwrap().asked, Some(("ann".to_owned(), Some(b()))));
    release(&store, &a(), first, true).await;
    assert_eq!(take(&store, &a(), TERM).await, None, "who hands over does not take it back at once");
    assert_eq!(take(&store, &NodeId::new("service-c"), TERM).await, None, "another was asked for");
    let second = take(&store, &b(), TERM).await.unwrap();
    assert_eq!(store.leadership().await.unwrap().asked, None, "it was done");

    assert!(ask(&store, None).await);
    release(&store, &b(), second, true).await;
    assert_eq!(take(&store, &b(), TERM).await, None);
    assert!(take(&store, &a(), TERM).await.is_some(), "any other may");
}

async fn nodes_tell_of_settings_links_and_addresses_until_they_are_removed(data: Data) {
    let store = data.open().await;
    let word = |setting: &str, error: Option<&str>| NodeSetting {
        setting: setting.to_owned(),
        wanted: "10 s".to_owned(),
        in_force: if error.is_some() { "5 s" } else { "10 s" }.to_owned(),
        fixed: false,
        since: at(3),
        error: error.map(str::to_owned),
    };
    let link = NodeLink {
        state: "live".to_owned(),
        peer: Some(b()),
        endpoint: "tcp://127.0.0.1:1".to_owned(),
        since: at(2),
        error: None,
        latency: Some(Duration::from_micros(1234)),
    };
    let mut tx = store.begin().await.unwrap();
    // nobody knows it yet: what it says is about nobody
    tx.tell_node_setting(&a(), &word("X", None)).await.unwrap();
    tx.tell_node_link(&a(), &link).await.unwrap();
    assert!(!tx.override_address(&a(), Some("box:9")).await.unwrap());
    for id in ["service-a", "service-b"] {
        tx.register_node(&node(id)).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert!(store.node_settings().await.unwrap().is_empty() && store.node_links().await.unwrap().is_empty());

    let mut tx = store.begin().await.unwrap();
    tx.tell_node_setting(&a(), &word("X", Some("the port is taken"))).await.unwrap();
    tx.tell_node_setting(&a(), &word("A", None)).await.unwrap();
    tx.tell_node_setting(&b(), &word("X", None)).await.unwrap();
    tx.tell_node_link(&a(), &NodeLink { latency: None, ..link.clone() }).await.unwrap();
    assert!(tx.override_address(&a(), Some("box:9")).await.unwrap());
    tx.commit().await.unwrap();
    let broken = (a(), word("X", Some("the port is taken")));
    let told = [(a(), word("A", None)), broken, (b(), word("X", None))];
    assert_eq!(store.node_settings().await.unwrap(), told);

    // said again: as it is now
    let down = NodeLink { state: "down".to_owned(), peer: None, error: Some("refused".to_owned()), ..link };
    let mut tx = store.begin().await.unwrap();
    tx.tell_node_setting(&a(), &word("X", None)).await.unwrap();
    tx.tell_node_link(&a(), &down).await.unwrap();
    // it starts again: what an administrator said of its address stays
    tx.register_node(&node("service-a")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.node_settings().await.unwrap()[1], (a(), word("X", None)));
    assert_eq!(store.node_links().await.unwrap(), [(a(), down)]);
    assert_eq!(store.nodes().await.unwrap()[0].address_override.as_deref(), Some("box:9"));

    let mut tx = store.begin().await.unwrap();
    tx.forget_node_settings(&b()).await.unwrap();
    assert!(tx.override_address(&a(), None).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(store.node_settings().await.unwrap().len(), 2);
    assert_eq!(store.nodes().await.unwrap()[0].address_override, None);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.remove_node(&a()).await.unwrap() && !tx.remove_node(&a()).await.unwrap());
    tx.commit().await.unwrap();
    assert!(store.node_settings().await.unwrap().is_empty() && store.node_links().await.unwrap().is_empty());
}

async fn runs_of_silent_nodes_are_given_up_and_may_end_late(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    let mut silent = node("service-b");
    silent.heartbeat_at = at(10);
    tx.register_node(&silent).await.unwrap();
    tx.register_node(&node("service-a")).await.unwrap();
    tx.commit().await.unwrap();
    let mut runs = Vec::new();
    for (name, owner) in [("own", a()), ("silent", b()), ("unknown", NodeId::new("service-c"))] {
        let asked = request(&store, &asked(name, None)).await;
        let mut tx = store.begin().await.unwrap();
        runs.push(tx.claim_execution(asked.id, &owner, 1, at(5)).await.unwrap().unwrap().id);
        tx.commit().await.unwrap();
    }
    let elsewhere = store.running_elsewhere(&a()).await.unwrap();
    assert_eq!(elsewhere.iter().map(|run| run.id).collect::<Vec<_>>(), runs[1..]);
    let since = async |before| store.running_since(&a(), at(before)).await.unwrap().len();
    assert_eq!((since(5).await, since(6).await), (0, 1));

    let give_up = async |silent_since| {
        let mut tx = store.begin().await.unwrap();
        let gone = tx.abandon_runs_of_silent(&a(), at(silent_since), |node| format!("{node} is silent")).await.unwrap();
        tx.commit().await.unwrap();
        gone
    };
    let unknown = give_up(9).await;
    assert_eq!(unknown.iter().map(|run| run.id).collect::<Vec<_>>(), [runs[2]], "the other was heard at 10");
    let gone = give_up(10).await;
    assert_eq!((gone.len(), gone[0].id, gone[0].outcome), (1, runs[1], Some(Outcome::Abandoned)));
    assert_eq!((gone[0].finished_at, gone[0].message.as_deref()), (Some(at(10)), Some("service-b is silent")));
    assert!(give_up(99).await.is_empty(), "the own one goes on");

    let late = async |id, node: NodeId| {
        let mut tx = store.begin().await.unwrap();
        let noted = tx.note_late_end(id, &node, "it ended after all").await.unwrap();
        tx.commit().await.unwrap();
        noted
    };
    assert!(!late(runs[0], a()).await, "it was not given up");
    assert!(!late(runs[1], a()).await, "it is another node's");
    assert!(late(runs[1], b()).await);
    let run = store.execution(runs[1]).await.unwrap().unwrap();
    assert_eq!(run.message.as_deref(), Some("service-b is silent; it ended after all"));
    assert_eq!(run.outcome, Some(Outcome::Abandoned));
}

async fn uneventful_runs_make_way_before_others(data: Data) {
    let store = data.open().await;
    let due = || switchboard::store::executions::NewExecution {
        cause: Cause::Schedule,
        requested_by: None,
        ..asked("beat", None)
    };
    let mut ids = Vec::new();
    let mut tx = store.begin().await.unwrap();
    for turn in 0..6 {
        let run = tx.begin_execution(&due(), &a(), 9).await.unwrap().unwrap().id;
        let (outcome, message) = match turn {
            1 => (Outcome::Error, None),
            2 => (Outcome::Normal, Some("told something")),
            _ => (Outcome::Normal, None),
        };
        tx.finish_execution(run, outcome, message, at(turn)).await.unwrap();
        ids.push(run);
    }
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_uneventful("other", 0).await.unwrap(), 0);
    assert_eq!(tx.purge_uneventful("beat", 2).await.unwrap(), 2, "the first and the fourth");
    tx.commit().await.unwrap();
    for (id, stays) in ids.iter().zip([false, true, true, false, true, true]) {
        assert_eq!(store.execution(*id).await.unwrap().is_some(), stays, "{id:?}");
    }
}

async fn kept_rows_of_several_lives_are_read_on_from_any_place(data: Data) {
    let (of_a, of_b) = (Epoch::from_u64(0xb), Epoch::from_u64(0xa));
    let store = data.open().await;
    let keep = async |node: NodeId, epoch: Epoch, seqs: std::ops::RangeInclusive<u64>| {
        let line = |seq| LogEntry {
            time: at(1),
            level: Level::Info,
            source: "s".into(),
            execution: None,
            stream: None,
            text: format!("line {seq}").into(),
        };
        let lines: Vec<_> = seqs.map(|seq| (seq, line(seq))).collect();
        let mut tx = store.begin().await.unwrap();
        tx.keep_rows(&node, epoch, &lines, &[]).await.unwrap();
        tx.commit().await.unwrap();
    };
    // a is primary, then b, then a again
    keep(a(), of_a, 1..=3).await;
    keep(b(), of_b, 1..=2).await;
    keep(a(), of_a, 4..=5).await;
    assert_eq!(store.kept_lives().await.unwrap(), [of_a, of_b]);
    assert_eq!(store.kept_node(of_b).await.unwrap(), Some(b()));
    assert_eq!(store.kept_node(Epoch::from_u64(9)).await.unwrap(), None);

    let place = |epoch, seq| Cursor { epoch, seq };
    let after = async |epoch, seq, limit, bytes| {
        let found = store.kept_after(place(epoch, seq), None, limit, bytes).await.unwrap();
        let rows = found.rows.iter().map(|row| match row {
            KeptRow::Line(line) => (line.epoch, line.seq),
            KeptRow::Gap(..) => panic!("no gap was kept"),
        });
        (rows.collect::<Vec<_>>(), found.anchored, found.full)
    };
    let all = [(of_a, 2), (of_a, 3), (of_b, 1), (of_b, 2), (of_a, 4), (of_a, 5)];
    assert_eq!(after(of_a, 1, 99, 9999).await, (all.to_vec(), true, false));
    assert_eq!(after(of_a, 1, 2, 9999).await, (all[..2].to_vec(), true, true), "so many rows");
    assert_eq!(after(of_a, 1, 99, 8).await, (all[..2].to_vec(), true, true), "so many bytes");
    assert_eq!(after(of_b, 1, 99, 9999).await.0, all[3..]);
    assert!(!after(of_a, 0, 99, 9999).await.1, "nothing before it was kept");
    let own = async |epoch, seq, upto, limit| {
        let found = store.kept_of_life(place(epoch, seq), upto, limit, 9999).await.unwrap();
        let seqs = found.rows.iter().map(|row| if let KeptRow::Line(line) = row { line.seq } else { 0 });
        (seqs.collect::<Vec<_>>(), found.full)
    };
    assert_eq!(own(of_a, 1, 4, 99).await, (vec![2, 3, 4], false));
    assert_eq!(own(of_a, 1, 5, 3).await, (vec![2, 3, 4], true));
    assert_eq!(own(Epoch::from_u64(9), 1, 5, 3).await, (vec![], false));

    assert_eq!(store.kept_before(place(of_b, 1), of_a).await.unwrap(), 3);
    assert_eq!(store.kept_before(place(of_a, 5), of_b).await.unwrap(), 2);
    assert_eq!(store.kept_before(place(of_a, 1), of_b).await.unwrap(), 0);
    // whichever line of a was the last one before b's
    for seq in 6..=40 {
        keep(a(), of_a, seq..=seq).await;
        keep(b(), of_b, seq * 3..=seq * 3).await;
    }
    for seq in 6..=40 {
        assert_eq!(store.kept_before(place(of_b, seq * 3), of_a).await.unwrap(), seq);
        assert_eq!(store.kept_before(place(of_a, seq), of_b).await.unwrap(), if seq == 6 { 2 } else { seq * 3 - 3 });
    }
    assert_eq!(
        store.kept_before(place(Epoch::from_u64(9), 1), of_a).await.unwrap(),
        0,
        "nothing is known of that life"
    );
}
