//! `settings`: list, get, history, export, import, set, clear, generate a key.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use axum::http::Method;
use serde_json::{Value, json};

use crate::app::cli::{Global, SettingsCommand};
use crate::app::commands::door::{Door, segment};
use crate::app::commands::users::first_line;
use crate::app::commands::{complain, say};
use crate::base::visible::visible;
use crate::config::schema::name as setting_name;

/// The longest file that is read, in bytes.
const MAX_IMPORT: u64 = 64 << 10;

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
        SettingsCommand::Get { name, json } => {
            let answer = door.call(Method::GET, &path(&name), None).await?;
            if json {
                say(&answer);
                return Ok(());
            }
            match answer["value"].as_str() {
                Some(value) => say(value),
                None => anyhow::bail!("{name} is a secret; it is never shown"),
            }
        }
        SettingsCommand::History { name, json } => {
            let answer = door.call(Method::GET, &format!("{}/history", path(&name)), None).await?;
            if json {
                say(&answer);
            } else {
                answer["changes"].as_array().into_iter().flatten().for_each(|change| say(past(change)));
            }
        }
        SettingsCommand::Export { all } => {
            let answer = door.call(Method::GET, &format!("/api/settings:export?all={all}"), None).await?;
            say(answer["toml"].as_str().unwrap_or_default().trim_end());
        }
        SettingsCommand::Import { file, dry_run, json } => {
            let body = json!({ "toml": text_of(&file)?, "dry_run": dry_run });
            let answer = door.call(Method::POST, "/api/settings:import", Some(&body)).await?;
            if json {
                say(&answer);
            } else {
                taken_in(&answer);
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
            "saved; but {} has it fixed ({value}) by its flag, configuration file or environment, where it stays",
            text("node").unwrap_or_default()
        ));
    }
}

/// What stands in a file, or comes on standard input.
fn text_of(file: &Path) -> anyhow::Result<String> {
    // more than that is refused anyway
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_IMPORT).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_IMPORT).read_to_string(&mut text))
    };
    read.with_context(|| format!("{} can't be read", file.display()))?;
    Ok(text)
}

/// One change, in a line.
fn past(change: &Value) -> String {
    let text = |key: &str| visible(change[key].as_str().unwrap_or_default()).to_string();
    let value =
        |key: &str| change[key].as_str().map_or_else(|| "default".to_owned(), |value| format!("`{}`", visible(value)));
    let what = match (change["from"].as_str(), change["to"].as_str(), text("what")) {
        (None, None, what) => what,
        _ => format!("{} → {}", value("from"), value("to")),
    };
    format!("{}  {:<16} {what}", text("changed_at"), text("changed_by"))
}

/// What an import changed, or would.
fn taken_in(answer: &Value) {
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for change in changes {
        let name = change["name"].as_str().unwrap_or_default();
        if change["secret"] == true {
            say(format_args!("{name}: replaced"));
        } else {
            let value =
                |key: &str| change[key].as_str().map_or_else(|| "default".to_owned(), |v| format!("`{}`", visible(v)));
            say(format_args!("{name}: {} → {}", value("from"), value("to")));
        }
    }
    for name in answer["kept"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(format_args!("{name}: stays as it is"));
    }
    let count = changes.len();
    let word = if count == 1 { "change" } else { "changes" };
    say(if answer["saved"] == true {
        format!("{count} {word} saved, {} the same already", answer["same"])
    } else {
        format!("{count} {word} would be saved, {} the same already; nothing was saved", answer["same"])
    });
}

fn line(setting: &Value) {
    let text = |key: &str| setting[key].as_str().unwrap_or_default().to_owned();
    let value = if setting["secret"] == true { "(secret)".to_owned() } else { text("value") };
    say(format_args!("{:<32} {:<24} {}", text("name"), value, text("source")));
}
