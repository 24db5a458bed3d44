//! Signing in and out, the set-up link, sessions, and what guessing comes to.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use switchboard::auth::password::Error as PasswordError;
use switchboard::auth::sign_in::{Admitted, Denied};
use switchboard::auth::token;
use switchboard::model::user::ServiceRole;

use crate::front::{Front, HOME, secret};

const PASSWORD: &str = "correct horse";
const IDLE: Duration = Duration::from_hours(12);
const AGE: Duration = Duration::from_hours(7 * 24);

async fn enter(front: &Front, name: &str, password: &str) -> Result<Admitted, Denied> {
    front.sign_in.enter(name, secret(password), HOME).await
}

fn why<T>(result: Result<T, Denied>) -> String {
    match result {
        Ok(_) => panic!("was let in"),
        Err(denied) => denied.to_string(),
    }
}

#[tokio::test]
async fn the_set_up_link_works_once_and_makes_an_administrator() {
    let front = Front::new().await;
    let link = front.sign_in.new_setup_link().await.unwrap().unwrap();
    let set_up =
        async |secret_text: &str, name: &str| front.sign_in.set_up(secret_text, name, secret(PASSWORD), HOME).await;
    assert!(matches!(set_up(token::generate().expose_secret(), "ann").await, Err(Denied::Link)));
    assert!(matches!(set_up("' or 1=1 --", "ann").await, Err(Denied::Link)));
    assert!(matches!(set_up(link.expose_secret(), "no such name").await, Err(Denied::Name(_))));
    let admitted = set_up(link.expose_secret(), "ann").await.unwrap();
    assert!(admitted.user.has(ServiceRole::ServiceAdmin) && admitted.user.has_password);
    let session = front.sign_in.session(admitted.cookie.expose_secret(), IDLE, AGE).await.unwrap().unwrap();
    assert_eq!((session.user.name.as_str(), session.address.as_str()), ("ann", HOME));
    assert!(matches!(set_up(link.expose_secret(), "eve").await, Err(Denied::Link)), "a second time");
    assert!(front.sign_in.new_setup_link().await.unwrap().is_none(), "there is an administrator");
    assert_eq!(front.audited("user:create").await, ["first administrator, by the set-up link"]);
    assert!(enter(&front, "ann", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn the_set_up_link_expires_and_a_new_one_replaces_it() {
    let front = Front::new().await;
    let first = front.sign_in.new_setup_link().await.unwrap().unwrap();
    let second = front.sign_in.new_setup_link().await.unwrap().unwrap();
    let set_up = async |link: &str| front.sign_in.set_up(link, "ann", secret(PASSWORD), HOME).await;
    assert!(matches!(set_up(first.expose_secret()).await, Err(Denied::Link)), "replaced");
    front.clock.advance(Duration::from_secs(3_601));
    assert!(matches!(set_up(second.expose_secret()).await, Err(Denied::Link)), "expired");
    let third = front.sign_in.new_setup_link().await.unwrap().unwrap();
    assert!(set_up(third.expose_secret()).await.is_ok());
}

#[tokio::test]
async fn of_two_who_use_the_link_at_once_one_is_let_in() {
    let front = Front::new().await;
    let link = front.sign_in.new_setup_link().await.unwrap().unwrap();
    let both = ["ann", "eve"].map(|name| front.sign_in.set_up(link.expose_secret(), name, secret(PASSWORD), HOME));
    let let_in = join_all(both).await.into_iter().flatten().count();
    assert_eq!(let_in, 1);
    assert_eq!(front.store.users().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_right_password_is_let_in_and_everything_else_is_told_the_same() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    front.token("bot", ServiceRole::ServiceAdmin).await;
    let admitted = enter(&front, "ann", PASSWORD).await.unwrap();
    assert!(token::is_token(admitted.cookie.expose_secret()));
    let wrong = why(enter(&front, "ann", "correct hoarse").await);
    for (name, password) in [("nobody", PASSWORD), ("bot", PASSWORD), ("", PASSWORD), ("a b", PASSWORD), ("ann", "")] {
        assert_eq!(why(enter(&front, name, password).await), wrong, "{name:?}");
    }
    let user = front.store.user_by_name("ann").await.unwrap().unwrap().0;
    assert_eq!(user.last_sign_in_at, Some(front.now()));
    assert_eq!(front.audited("session:begin").await, ["signed in"]);
    assert!(front.audited("session:refused").await.contains(&"wrong name or password".to_owned()));
}

#[tokio::test]
async fn a_megabyte_is_refused_before_it_costs_anything() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    let megabyte = "x".repeat(1 << 20);
    let denied = enter(&front, "ann", &megabyte).await;
    assert!(matches!(denied, Err(Denied::Password(PasswordError::Unfit))));
    assert!(matches!(enter(&front, &megabyte, PASSWORD).await, Err(Denied::Wrong)));
    let longest = front.audit().await.into_iter().map(|entry| entry.subject.len() + entry.result.len()).max();
    assert!(longest < Some(200), "what is written down is short: {longest:?}");
}

#[tokio::test]
async fn somebody_who_may_not_see_the_pages_is_told_so() {
    let front = Front::new().await;
    front.person("mia", ServiceRole::MetricsViewer, PASSWORD).await;
    front.person("vic", ServiceRole::AdminViewer, PASSWORD).await;
    assert!(matches!(enter(&front, "mia", PASSWORD).await, Err(Denied::Forbidden)));
    assert!(enter(&front, "vic", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_thousand_wrong_passwords_are_bounded_work_and_bounded_audit() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    let all =
        join_all((0..1_000).map(|n| enter(&front, "ann", if n % 2 == 0 { "wrong wrong" } else { PASSWORD }))).await;
    let judged = all.iter().filter(|result| !matches!(result, Err(Denied::Throttled(_)))).count();
    // a right password forgives what was counted before it, so that a few more may be judged
    assert!((5..=40).contains(&judged), "{judged} were looked at");
    let refused = all.iter().filter(|result| result.is_err()).count();
    assert_eq!(front.audited("session:refused").await.len(), 5, "written down one by one");

    front.clock.advance(Duration::from_secs(61));
    let cookie = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    front.sign_in.session(cookie.expose_secret(), IDLE, AGE).await.unwrap().unwrap();
    let written = front.audited("session:refused").await;
    assert_eq!(written.len(), 6);
    assert!(written[5].starts_with(&format!("{} more refused", refused - 5)), "{}", written[5]);
}

#[tokio::test]
async fn a_name_is_locked_from_one_address_for_longer_each_time_and_never_from_another() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    for _ in 0..5 {
        assert!(matches!(enter(&front, "ann", "wrong wrong").await, Err(Denied::Wrong)));
    }
    for seconds in [1, 2, 4] {
        let denied = enter(&front, "ann", PASSWORD).await;
        assert!(matches!(denied, Err(Denied::Throttled(wait)) if wait == seconds), "after {seconds}");
        front.clock.advance(Duration::from_secs(seconds));
        assert!(matches!(enter(&front, "ann", "wrong wrong").await, Err(Denied::Wrong)));
    }
    assert!(front.sign_in.enter("ann", secret(PASSWORD), "10.0.0.9").await.is_ok(), "from elsewhere");
    front.clock.advance(Duration::from_secs(8));
    assert!(enter(&front, "ann", PASSWORD).await.is_ok(), "after the lock");
    assert!(matches!(enter(&front, "ann", "wrong wrong").await, Err(Denied::Wrong)), "it starts over");
}

#[tokio::test]
async fn an_address_that_tries_many_names_has_to_wait() {
    let front = Front::new().await;
    for n in 0..20 {
        let denied = enter(&front, &format!("user{n}"), "wrong wrong").await;
        assert!(matches!(denied, Err(Denied::Wrong)));
    }
    assert!(matches!(enter(&front, "user99", "wrong wrong").await, Err(Denied::Throttled(60))));
}

#[tokio::test]
async fn sessions_end_idle_old_or_left() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    let session = async |cookie: &str| front.sign_in.session(cookie, IDLE, AGE).await.unwrap();

    let used = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    for _ in 0..20 {
        front.clock.advance(Duration::from_hours(11));
        let Some(found) = session(used.expose_secret()).await else { break };
        assert_eq!(found.last_seen_at, front.now(), "use is written down");
    }
    assert!(session(used.expose_secret()).await.is_none(), "older than {AGE:?}");

    let idle = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    front.clock.advance(IDLE + Duration::from_secs(1));
    assert!(session(idle.expose_secret()).await.is_none(), "idle");

    let left = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    front.sign_in.leave(left.expose_secret(), HOME).await.unwrap();
    front.sign_in.leave(left.expose_secret(), HOME).await.unwrap();
    assert!(session(left.expose_secret()).await.is_none(), "signed out");
    assert_eq!(front.audited("session:end").await, ["signed out"]);

    for garbage in ["", "0", &"0".repeat(64), &"é".repeat(32), &"x".repeat(1 << 20)] {
        assert!(session(garbage).await.is_none());
        front.sign_in.leave(garbage, HOME).await.unwrap();
    }
}

#[tokio::test]
async fn use_within_a_minute_is_not_written_down_again() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    let cookie = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    let began = front.now();
    front.clock.advance(Duration::from_secs(59));
    let seen = front.sign_in.session(cookie.expose_secret(), IDLE, AGE).await.unwrap().unwrap().last_seen_at;
    assert_eq!(seen, began);
    front.clock.advance(Duration::from_secs(1));
    let seen = front.sign_in.session(cookie.expose_secret(), IDLE, AGE).await.unwrap().unwrap().last_seen_at;
    assert_eq!(seen, front.now());
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, PASSWORD).await;
    let other = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    let own = enter(&front, "ann", PASSWORD).await.unwrap().cookie;
    let session = front.sign_in.session(own.expose_secret(), IDLE, AGE).await.unwrap().unwrap();
    let change =
        async |old: &str, new: &str| front.sign_in.change_password(&session, secret(old), secret(new), HOME).await;
    assert!(matches!(change("wrong wrong", "a better one").await, Err(Denied::Wrong)));
    assert!(matches!(change(PASSWORD, "short").await, Err(Denied::Password(PasswordError::Unfit))));
    change(PASSWORD, "a better one").await.unwrap();
    assert!(front.sign_in.session(other.expose_secret(), IDLE, AGE).await.unwrap().is_none());
    assert!(front.sign_in.session(own.expose_secret(), IDLE, AGE).await.unwrap().is_some());
    assert!(matches!(enter(&front, "ann", PASSWORD).await, Err(Denied::Wrong)));
    assert!(enter(&front, "ann", "a better one").await.is_ok());
    assert_eq!(front.audited("user:password").await, ["changed; other sessions ended"]);
}

#[tokio::test]
async fn secrets_are_neither_printed_nor_written_down() {
    let front = Front::new().await;
    let link = front.sign_in.new_setup_link().await.unwrap().unwrap();
    let admitted = front.sign_in.set_up(link.expose_secret(), "ann", secret(PASSWORD), HOME).await.unwrap();
    drop(enter(&front, "ann", "another guess").await);
    let token = front.token("bot", ServiceRole::AdminViewer).await;
    let written = format!("{:?} {:?} {:?} {:?}", front.audit().await, admitted.user, admitted.cookie, link);
    for hidden in [link.expose_secret(), admitted.cookie.expose_secret(), &token, PASSWORD, "another guess"] {
        assert!(!written.contains(hidden), "{hidden} in {written}");
    }
}

#[tokio::test]
async fn a_token_finds_its_user_and_nothing_else_does() {
    let front = Front::new().await;
    let token = front.token("bot", ServiceRole::AdminViewer).await;
    let found = front.sign_in.user_of_token(&token).await.unwrap().unwrap();
    assert_eq!(found.name.as_str(), "bot");
    for other in ["", "bot", &token[1..], &token.to_uppercase(), &"0".repeat(64), &"x".repeat(1 << 20)] {
        assert!(front.sign_in.user_of_token(other).await.unwrap().is_none());
    }
}
