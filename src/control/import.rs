//! Taking in settings from a file: read and checked as a whole, shown as differences, saved all or none.

use crate::config::export;
use crate::config::file::setting::read_import;
use crate::config::problem::Problem;
use crate::config::schema::Setting;
use crate::control::{Actor, Change, Control, Refusal};

/// What an import would change.
#[derive(Clone)]
pub struct Plan {
    /// In the order of the file.
    pub changes: Vec<Planned>,
    /// How many settings of the file stand as it says already.
    pub same: usize,
    /// Secrets that stay as they are.
    pub kept: Vec<&'static str>,
}

/// One change of it.
#[derive(Clone)]
pub struct Planned {
    /// Of which setting.
    pub setting: &'static Setting,
    /// What the database holds; none: the default. Also of a secret: it is not to be shown.
    pub from: Option<String>,
    /// What it is to hold; none: back to the default. Also of a secret.
    pub to: Option<String>,
    /// The version this was planned at.
    pub seen: i64,
}

impl Plan {
    /// What is to be saved.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let change = |planned: &Planned| Change {
            name: planned.setting.name.to_owned(),
            value: planned.to.clone(),
            seen: Some(planned.seen),
        };
        self.changes.iter().map(change).collect()
    }
}

impl Control {
    /// What taking in this text would change. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with everything that is wrong, by line or setting: what can't be read, unknown and locked names,
    /// values that can't be had, alone or together.
    pub async fn plan_import(&self, text: &str) -> Result<Plan, Refusal> {
        let (settings, problems) = read_import(text);
        let mut wrong: Vec<(String, String)> = problems.iter().map(told).collect();
        let stored = self.store.settings().await?;
        let mut plan = Plan { changes: Vec::new(), same: 0, kept: Vec::new() };
        for read in settings {
            let Some(setting) = Setting::find(read.name) else { continue };
            if read.is_placeholder() {
                plan.kept.push(setting.name);
                continue;
            }
            let present = stored.iter().find(|stored| stored.name == setting.name);
            let from = present.map(|stored| stored.value.clone());
            let to = setting.kind.check(&read.value).ok().filter(|value| value != setting.default);
            if from == to {
                plan.same += 1;
                continue;
            }
            let seen = match present {
                Some(present) => present.version,
                None => self.store.setting_history(Some(setting.name), 1).await?.first().map_or(0, |last| last.version),
            };
            plan.changes.push(Planned { setting, from, to, seen });
        }
        match self.check_settings(plan.changes()).await {
            Err(Refusal::Invalid(more)) => wrong.extend(more),
            other => other?,
        }
        if wrong.is_empty() { Ok(plan) } else { Err(Refusal::Invalid(wrong)) }
    }

    /// Takes in what was planned, all or none.
    ///
    /// # Errors
    /// As [`Control::save_settings`].
    pub async fn import(&self, actor: &Actor, plan: &Plan) -> Result<(), Refusal> {
        actor.must_act()?;
        if plan.changes.is_empty() {
            return Ok(());
        }
        self.save_settings(actor, plan.changes()).await.map(|_| ())
    }

    /// What the database holds, as a file that can be taken in; with `all` also what stands at its default.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn export(&self, all: bool) -> Result<String, Refusal> {
        let stored = self.store.settings().await?;
        let value = |name: &str| stored.iter().find(|stored| stored.name == name).map(|stored| stored.value.as_str());
        Ok(export::export(&self.fixed, value, all))
    }
}

/// A problem as one of a field: the line stands for it.
fn told(problem: &Problem) -> (String, String) {
    let what = match problem.allowed.as_str() {
        "" => problem.what.clone(),
        allowed => format!("{}; allowed: {allowed}", problem.what),
    };
    let line = if problem.line == 0 { problem.file.clone() } else { format!("line {}", problem.line) };
    (line, what)
}
