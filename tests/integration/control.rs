//! Run, pause, resume, cancel and users, through the one door: checks, row, audit, wake-up.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use switchboard::base::id::{ExecutionId, NodeId};
use switchboard::control::users::WantedUser;
use switchboard::control::{Actor, Refusal};
use switchboard::messenger::Identity;
use switchboard::messenger::client::LinkState;
use switchboard::messenger::server::Server;
use switchboard::model::execution::{Cause, Outcome, Phase};
use switchboard::model::user::ServiceRole;
use switchboard::protocol::Kind;
use switchboard::protocol::command::Command;

use crate::front::{Front, HOME, root, secret, viewer};

fn ann() -> Actor {
    Actor { who: "ann".to_owned(), address: HOME.to_owned(), roles: vec![ServiceRole::ServiceAdmin] }
}

fn wanted(name: &str, role: ServiceRole, password: Option<&str>) -> WantedUser {
    WantedUser {
        name: name.to_owned(),
        email: String::new(),
        roles: vec![role],
        password: password.map(secret),
        token: password.is_none(),
    }
}

#[tokio::test]
async fn a_run_asked_for_is_a_row_and_an_audit_entry_also_while_the_messenger_is_away() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let asked = front.control.run(&ann(), "disk-space", Cause::Manual, Some(0), None).await.unwrap();
    assert!(asked.new && !asked.told, "nobody listens");
    assert_eq!(asked.execution.phase(), Phase::Queued);
    assert_eq!(asked.execution.requested_by.as_deref(), Some("ann"));
    assert_eq!(front.store.execution(asked.execution.id).await.unwrap(), Some(asked.execution.clone()));
    assert_eq!(front.audited("dispatcher:run").await, [format!("execution {} queued", asked.execution.id)]);
}

#[tokio::test]
async fn a_double_click_runs_once() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let clicks =
        (0..10).map(|_| async { front.control.run(&ann(), "disk-space", Cause::Manual, Some(0), None).await.unwrap() });
    let asked = join_all(clicks).await;
    assert_eq!(asked.iter().filter(|asked| asked.new).count(), 1);
    assert!(asked.iter().all(|other| other.execution.id == asked[0].execution.id));
    assert_eq!(front.audited("dispatcher:run").await.len(), 1);

    let eve = Actor { who: "eve".to_owned(), ..ann() };
    assert!(!front.control.run(&eve, "disk-space", Cause::Manual, Some(0), None).await.unwrap().new);
    let results = front.audited("dispatcher:run").await;
    assert!(results[1].contains("had been asked for already"), "{results:?}");

    let next = asked[0].execution.id.0;
    assert!(front.control.run(&ann(), "disk-space", Cause::Manual, Some(next), None).await.unwrap().new);
}

#[tokio::test]
async fn an_idempotency_key_is_good_for_one_run_of_a_dispatcher() {
    let front = Front::new().await;
    front.declare(&["disk-space", "backup"]).await;
    let run = async |dispatcher: &str, key: &str| {
        front.control.run(&ann(), dispatcher, Cause::Api, None, Some(key.to_owned())).await
    };
    let first = run("disk-space", "k-1").await.unwrap();
    let again = run("disk-space", "k-1").await.unwrap();
    assert!(first.new && !again.new && first.execution.id == again.execution.id);
    assert!(run("disk-space", "k-2").await.unwrap().new && run("backup", "k-1").await.unwrap().new);
    for bad in ["", "a b", &"x".repeat(256)] {
        assert!(matches!(run("disk-space", bad).await, Err(Refusal::Invalid(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_run_says_why_and_leaves_nothing_behind() {
    let front = Front::new().await;
    front.declare(&["disk-space", "disabled", "gone"]).await;
    front.declare(&["disk-space", "disabled"]).await;
    let run = async |actor: Actor, name: &str| front.control.run(&actor, name, Cause::Api, None, None).await;
    assert!(matches!(run(viewer(), "disk-space").await, Err(Refusal::Forbidden)));
    for name in ["nothing", "gone", "", "'; drop table executions; --"] {
        assert!(matches!(run(ann(), name).await, Err(Refusal::NotFound(_))), "{name:?}");
    }
    let Err(Refusal::Conflict(why)) = run(ann(), "disabled").await else { panic!() };
    assert!(why.contains("enabled = false"), "{why}");
    assert!(front.store.queued_executions().await.unwrap().is_empty() && front.audit().await.is_empty());
}

#[tokio::test]
async fn pausing_says_who_and_stays_with_the_first() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let paused = async || front.store.dispatcher("disk-space").await.unwrap().unwrap().paused;
    front.control.pause(&ann(), "disk-space").await.unwrap();
    front.clock.advance(Duration::from_secs(5));
    front.control.pause(&root(), "disk-space").await.unwrap();
    assert_eq!(paused().await.unwrap().0, "ann");
    front.control.resume(&root(), "disk-space").await.unwrap();
    front.control.resume(&root(), "disk-space").await.unwrap();
    assert_eq!(paused().await, None);
    let results = [front.audited("dispatcher:pause").await, front.audited("dispatcher:resume").await].concat();
    assert_eq!(results[0], "paused");
    assert!(results[1].starts_with("was paused already by ann"), "{results:?}");
    assert!(results[2].starts_with("resumed; was paused by ann"), "{results:?}");
    assert_eq!(results[3], "was not paused");
    assert!(matches!(front.control.pause(&ann(), "nothing").await, Err(Refusal::NotFound(_))));
    assert!(matches!(front.control.resume(&viewer(), "disk-space").await, Err(Refusal::Forbidden)));
}

#[tokio::test]
async fn a_waiting_run_is_cancelled_a_running_one_asked_and_an_ended_one_is_too_late() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let ask = async || front.control.run(&ann(), "disk-space", Cause::Api, None, None).await.unwrap().execution.id;
    let (waiting, running) = (ask().await, ask().await);
    front.claim(running).await;
    let ended = front.control.cancel(&ann(), waiting).await.unwrap();
    assert_eq!((ended.outcome, ended.cancelled_by.as_deref()), (Some(Outcome::Cancelled), Some("ann")));
    let asked = front.control.cancel(&ann(), running).await.unwrap();
    assert_eq!((asked.phase(), asked.cancelled_by.as_deref()), (Phase::Running, Some("ann")));
    let requests = front.store.cancel_requests(&NodeId::new("service-1")).await.unwrap();
    assert_eq!(requests.iter().map(|execution| execution.id).collect::<Vec<_>>(), [running]);
    let Err(Refusal::Conflict(why)) = front.control.cancel(&ann(), waiting).await else { panic!() };
    assert!(why.contains("had ended already: cancelled"), "{why}");
    assert!(matches!(front.control.cancel(&ann(), ExecutionId(999)).await, Err(Refusal::NotFound(_))));
    assert!(matches!(front.control.cancel(&viewer(), running).await, Err(Refusal::Forbidden)));
    assert_eq!(front.audited("execution:cancel").await.len(), 2);
}

#[tokio::test]
async fn all_runs_of_one_dispatcher_are_cancelled_and_no_others() {
    let front = Front::new().await;
    front.declare(&["disk-space", "backup"]).await;
    assert_eq!(front.control.cancel_all(&ann(), "disk-space").await.unwrap(), []);
    for name in ["disk-space", "disk-space", "backup"] {
        front.control.run(&ann(), name, Cause::Api, None, None).await.unwrap();
    }
    front.claim(ExecutionId(1)).await;
    let reached = front.control.cancel_all(&ann(), "disk-space").await.unwrap();
    assert_eq!(reached.len(), 2);
    assert_eq!(front.store.queued_executions().await.unwrap().len(), 1, "the backup's");
    let results = front.audited("dispatcher:cancel").await;
    assert!(results.len() == 1 && results[0].starts_with("2 cancelled"), "{results:?}");
}

#[tokio::test]
async fn the_service_is_told_when_it_can_be() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let identity = Identity { node: NodeId::new("service-1") };
    let (_server, mut channels) =
        Server::listen(identity, front.endpoint.clone(), front.keys.clone(), &front.shutdown).await.unwrap();
    front.messenger.reconnect();
    let channel = channels.recv().await.unwrap();
    let (_sender, mut receiver) = channel.split();
    front.messenger.status().wait_for(|status| status.state == LinkState::Live).await.unwrap();

    let asked = front.control.run(&ann(), "disk-space", Cause::Manual, None, None).await.unwrap();
    assert!(asked.told);
    let command = loop {
        let batch = receiver.recv().await.unwrap().expect("the link stays");
        if let Some(envelope) = batch.iter().find(|envelope| envelope.kind == Kind::Command as u8) {
            break Command::decode(&envelope.body).unwrap();
        }
    };
    assert_eq!(command, Command::Wake { dispatcher: Some("disk-space".to_owned()) });
}

#[tokio::test]
async fn users_are_made_with_what_they_need_and_nothing_less() {
    let front = Front::new().await;
    let create = async |actor: Actor, wanted: WantedUser| {
        front.control.create_user(&actor, front.sign_in.passwords(), wanted).await
    };
    let bare = WantedUser {
        name: "a b".to_owned(),
        email: "x\ny".to_owned(),
        roles: vec![],
        password: Some(secret("short")),
        token: false,
    };
    let Err(Refusal::Invalid(wrong)) = create(root(), bare).await else { panic!() };
    assert_eq!(
        wrong.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
        ["name", "email", "roles", "password"]
    );
    let nothing = WantedUser { token: false, ..wanted("bob", ServiceRole::AdminViewer, None) };
    assert!(matches!(create(root(), nothing).await, Err(Refusal::Invalid(_))));
    assert!(matches!(create(viewer(), wanted("bob", ServiceRole::AdminViewer, None)).await, Err(Refusal::Forbidden)));

    let created = create(root(), wanted("bob", ServiceRole::AdminViewer, None)).await.unwrap();
    let token = created.token.unwrap();
    assert_eq!(front.sign_in.user_of_token(token.expose_secret()).await.unwrap().unwrap(), created.user);
    assert!(matches!(create(root(), wanted("bob", ServiceRole::AdminViewer, None)).await, Err(Refusal::Conflict(_))));
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, "correct horse").await;
    front.token("bot", ServiceRole::ServiceAdmin).await;
    let (control, viewer_only) = (&front.control, [ServiceRole::AdminViewer]);
    assert!(matches!(control.delete_user(&root(), "ann").await, Err(Refusal::Conflict(_))));
    assert!(matches!(control.set_roles(&root(), "ann", &viewer_only).await, Err(Refusal::Conflict(_))));
    front.person("eve", ServiceRole::ServiceAdmin, "correct horse").await;
    // of two who go at once one stays
    let both = join_all([control.delete_user(&root(), "ann"), control.delete_user(&root(), "eve")]).await;
    assert_eq!(both.iter().filter(|result| result.is_ok()).count(), 1, "{both:?}");
    assert!(front.store.has_administrator().await.unwrap());
    control.delete_user(&root(), "bot").await.unwrap();
    assert!(matches!(control.delete_user(&root(), "bot").await, Err(Refusal::NotFound(_))));
}

#[tokio::test]
async fn roles_passwords_and_tokens_are_replaced_and_sessions_end() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, "correct horse").await;
    front.person("bob", ServiceRole::ServiceAdmin, "correct horse").await;
    let (idle, age) = (Duration::from_hours(1), Duration::from_hours(1));
    let enter = async |password: &str| front.sign_in.enter("bob", secret(password), HOME).await;
    let is_in = async |cookie: &str| front.sign_in.session(cookie, idle, age).await.unwrap().is_some();

    let cookie = enter("correct horse").await.unwrap().cookie;
    let changed = front.control.set_roles(&ann(), "bob", &[ServiceRole::AdminViewer]).await.unwrap();
    assert_eq!(changed.service_roles, [ServiceRole::AdminViewer]);
    assert!(!is_in(cookie.expose_secret()).await, "other roles");

    let cookie = enter("correct horse").await.unwrap().cookie;
    let passwords = front.sign_in.passwords();
    front.control.set_user_password(&ann(), passwords, "bob", secret("another horse")).await.unwrap();
    assert!(!is_in(cookie.expose_secret()).await, "another password");
    assert!(enter("correct horse").await.is_err() && enter("another horse").await.is_ok());

    let first = front.control.new_token(&ann(), "bob").await.unwrap();
    let second = front.control.new_token(&ann(), "bob").await.unwrap();
    assert!(front.sign_in.user_of_token(first.expose_secret()).await.unwrap().is_none());
    assert!(front.sign_in.user_of_token(second.expose_secret()).await.unwrap().is_some());
    front.control.revoke_token(&ann(), "bob").await.unwrap();
    assert!(front.sign_in.user_of_token(second.expose_secret()).await.unwrap().is_none());
    for refused in [
        front.control.set_roles(&viewer(), "bob", &[ServiceRole::AdminViewer]).await.map(drop),
        front.control.set_user_password(&viewer(), passwords, "bob", secret("another horse")).await,
        front.control.new_token(&viewer(), "bob").await.map(drop),
        front.control.delete_user(&viewer(), "bob").await,
    ] {
        assert!(matches!(refused, Err(Refusal::Forbidden)), "{refused:?}");
    }
}
