//! `openapi`, `config-doc`, `completions`: documents made from the code.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use crate::api;
use crate::app::cli::Cli;
use crate::app::commands::say;
use crate::config::schema::SETTINGS;

/// Prints the description of the HTTP interface.
///
/// # Errors
/// None so far.
pub fn openapi() -> anyhow::Result<u8> {
    say(serde_json::to_string_pretty(&api::openapi())?);
    Ok(0)
}

/// Prints the reference of all settings.
///
/// # Errors
/// None so far.
pub fn settings() -> anyhow::Result<u8> {
    say(settings_reference().trim_end());
    Ok(0)
}

/// Prints completions for a shell.
///
/// # Errors
/// None so far.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "switchboard", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}

/// `docs/configuration.md`.
fn settings_reference() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Made by `switchboard config-doc` from the table in `src/config/schema.rs`.\n\n\
         A value comes from a flag (`run --set NAME=VALUE`; not for secrets), else from the environment, else from `[settings]` of\n\
         the configuration file, else from the database (the\n\
         Advanced Settings page, `switchboard settings set`, `PUT /api/settings/NAME`), else it is the default. A value fixed by\n\
         flag, environment or file can't be changed elsewhere. An empty value is the default. Every change takes effect without a\n\
         restart: *live* at once on every node, *next run* when the work it governs runs the next time.\n",
    );
    let mut group = "";
    for setting in SETTINGS {
        if setting.group() != group {
            group = setting.group();
            let _ = write!(text, "\n## {group}\n");
        }
        let default = match (setting.secret, setting.default) {
            (true, _) => "generated on first use".to_owned(),
            (false, "") => "empty".to_owned(),
            (false, default) => format!("`{default}`"),
        };
        let _ = write!(
            text,
            "\n### {}\n\n{}\n\n| default | allowed | takes effect | variable |\n| --- | --- | --- | --- |\n| {default} | {} | {} | `{}` |\n",
            setting.name,
            setting.help,
            setting.kind.allowed(),
            setting.effect.as_str(),
            setting.variable()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_setting() {
        let text = settings_reference();
        for setting in SETTINGS {
            assert!(text.contains(&format!("### {}\n", setting.name)), "{}", setting.name);
        }
    }
}
