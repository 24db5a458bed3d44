//! The rule for errors: a text says what failed, its `source` says why, and the chain says everything once.

use std::io;

use switchboard::auth::sign_in::Denied;
use switchboard::base::chain::chain;
use switchboard::control::Refusal;
use switchboard::messenger::error::Error as MessengerError;
use switchboard::protocol::Report;
use switchboard::store::error::{Error as StoreError, OpenError};
use switchboard::store::lock::LockError;

const CAUSE: &str = "the cause of it all";

fn cause() -> io::Error {
    io::Error::other(CAUSE)
}

fn broken() -> StoreError {
    StoreError::Broken(sqlx::Error::Io(cause()))
}

fn nobody_there() -> MessengerError {
    MessengerError::Refused { endpoint: "pipe:/x".to_owned(), source: cause() }
}

#[test]
fn no_error_repeats_its_cause() {
    let unreadable = Report::decode(b"\xc1").unwrap_err();
    let errors: [(&str, Box<dyn std::error::Error>); 8] = [
        ("broken store", Box::new(broken())),
        ("busy store", Box::new(StoreError::Busy(sqlx::Error::PoolTimedOut))),
        ("store that can't be opened", Box::new(OpenError::from(broken()))),
        ("lock", Box::new(LockError::from(OpenError::from(broken())))),
        ("sign-in", Box::new(Denied::from(broken()))),
        ("door", Box::new(Refusal::from(broken()))),
        ("messenger", Box::new(nobody_there())),
        ("protocol", Box::new(unreadable)),
    ];
    for (what, error) in errors {
        let text = error.to_string();
        let why = error.source().unwrap_or_else(|| panic!("{what} has lost its cause")).to_string();
        assert!(!text.contains(&why), "{what} says its cause itself: {text}");
        assert!(chain(&*error).contains(&why), "{what}");
    }
}

#[test]
fn a_chain_says_the_cause_once() {
    let anyhow = anyhow::Error::from(broken()).context("the node can't start");
    for (text, begins) in [
        (chain(&broken()), "the database failed: "),
        (chain(&OpenError::from(broken())), "the database failed: "),
        (chain(&nobody_there()), "nobody listens at pipe:/x: "),
        (chain(&*anyhow), "the node can't start: the database failed: "),
    ] {
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(text.matches(CAUSE).count(), 1, "{text}");
    }
}
