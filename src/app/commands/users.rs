//! `user`: make, list and delete users.

use std::io::BufRead as _;

use anyhow::Context as _;
use axum::http::Method;
use serde_json::{Value, json};

use crate::app::cli::{Global, UserCommand};
use crate::app::commands::door::{Door, segment};
use crate::app::commands::say;
use crate::model::user::ServiceRole;

/// Does what the command says.
///
/// # Errors
/// What the node refused, in its words.
pub async fn run(global: &Global, command: UserCommand) -> anyhow::Result<u8> {
    // the first administrator may be made by a script, before the first start
    let makes = matches!(command, UserCommand::Add { .. });
    let door = if makes { Door::open_or_make(global).await? } else { Door::open(global).await? };
    let done = match command {
        UserCommand::Add { name, role, email, password_stdin, token } => {
            let roles: Vec<_> = role.into_iter().map(|role| ServiceRole::from(role).as_str()).collect();
            let mut body = json!({ "name": name.as_str(), "email": email, "roles": roles, "token": token });
            if password_stdin {
                body["password"] = first_line()?.into();
            }
            door.call(Method::POST, "/api/users", Some(&body)).await.map(|answer| {
                // the token stands alone, so that a script can take it as it is
                match answer["token"].as_str() {
                    Some(token) => say(token),
                    None => say(format_args!("made the user {name}")),
                }
            })
        }
        UserCommand::List { json } => door.call(Method::GET, "/api/users", None).await.map(|answer| {
            if json {
                say(&answer);
            } else {
                list(&answer);
            }
        }),
        UserCommand::Delete { name } => door
            .call(Method::DELETE, &format!("/api/users/{}", segment(name.as_str())), None)
            .await
            .map(|_| say(format_args!("deleted the user {name}"))),
    };
    door.close().await;
    done.map(|()| 0)
}

/// The first line of standard input, without its end.
pub(super) fn first_line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("standard input can't be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn list(answer: &Value) {
    for user in answer["users"].as_array().into_iter().flatten() {
        let roles: Vec<_> = user["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        say(format_args!("{:<24} {}", user["name"].as_str().unwrap_or_default(), roles.join(", ")));
    }
}
