//! `settings`: list, get, set, clear, generate a key.

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::cli::{Global, SettingsCommand};
use crate::app::commands::door::{Door, segment};
use crate::app::commands::users::first_line;
use crate::app::commands::{complain, say};
use crate::base::visible::visible;
use crate::config::schema::name as setting_name;

/// Does what the command says.
///
/// # Errors
/// What the node refused, in its words.
pub async fn run(global: &Global, command: SettingsCommand) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let done = act(&door, command).await;
    door.close().await;
    done.map(|()| 0)
}

async fn act(door: &Door, command: SettingsCommand) -> anyhow::Result<()> {
    let path = |name: &str| format!("/api/settings/{}", segment(name));
    match command {
        SettingsCommand::List { json } => {
            let answer = door.call(Method::GET, "/api/settings", None).await?;
            if json {
                say(&answer);
            } else {
                answer["settings"].as_array().into_iter().flatten().for_each(line);
            }
        }
        SettingsCommand::Get { name } => {
            let answer = door.call(Method::GET, &path(&name), None).await?;
            match answer["value"].as_str() {
                Some(value) => say(value),
                None => anyhow::bail!("{name} is a secret; it is never shown"),
            }
        }
        SettingsCommand::Set { name, value } => {
            let value = if value == "-" { first_line()? } else { value };
            let answer = door.call(Method::PUT, &path(&name), Some(&json!({ "value": value }))).await?;
            say(format_args!("{name} is saved"));
            tell_where_it_stays(&answer);
        }
        SettingsCommand::Clear { name } => {
            let answer = door.call(Method::DELETE, &path(&name), None).await?;
            say(format_args!("{name} is back at its default"));
            tell_where_it_stays(&answer);
        }
        SettingsCommand::GenerateKey { at_once } => {
            let path = format!("{}:generate", path(setting_name::MESSENGER_KEY));
            door.call(Method::POST, &path, Some(&json!({ "at_once": at_once }))).await?;
            say("a new messenger key is saved; nodes take it up by themselves");
        }
    }
    Ok(())
}

/// Says on which living nodes a value that was saved will not be in force.
fn tell_where_it_stays(setting: &Value) {
    for node in setting["nodes"].as_array().into_iter().flatten().filter(|node| node["fixed"] == true) {
        let text = |key: &str| node[key].as_str().map(visible);
        let value = text("in_force").or_else(|| text("wanted")).unwrap_or_default();
        complain(&format!(
            "saved; but {} has it fixed ({value}) by its configuration file or environment, where it stays",
            text("node").unwrap_or_default()
        ));
    }
}

fn line(setting: &Value) {
    let text = |key: &str| setting[key].as_str().unwrap_or_default().to_owned();
    let value = if setting["secret"] == true { "(secret)".to_owned() } else { text("value") };
    say(format_args!("{:<32} {:<24} {}", text("name"), value, text("source")));
}
