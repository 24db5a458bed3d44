//! What came of an action: a code in the address for browsers (rendered to words), JSON for scripts; never raw text.

use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, http::StatusCode};
use serde::Deserialize;

use crate::base::id::ExecutionId;
use crate::config::base_path::BasePath;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::wants_json;
use crate::web::session::local_path;
use crate::web::texts::EN;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal $text:ident),+ $(,)?) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            const ALL: &[Self] = &[$(Self::$variant),+];

            const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => EN.$text),+ }
            }
        }
    };
}

codes! {
    Run = "run" done_run,
    RunLater = "run-later" done_run_later,
    Again = "again" done_again,
    Paused = "paused" done_paused,
    Resumed = "resumed" done_resumed,
    Cancelled = "cancelled" done_cancelled,
    CancelledAll = "cancelled-all" done_cancelled_all,
    NothingToCancel = "nothing-to-cancel" done_nothing_to_cancel,
    Reconnected = "reconnected" done_reconnected,
    Reconnecting = "reconnecting" done_reconnecting,
    Saved = "saved" done_saved,
    Unchanged = "unchanged" done_unchanged,
    KeyGenerated = "key" done_key,
    KeyReplaced = "key-now" done_key_now,
    Purged = "purged" done_purged,
    UserDeleted = "user-deleted" done_user_deleted,
    RolesChanged = "roles" done_roles,
    PasswordSet = "password-set" done_password_set,
    TokenTaken = "token-taken" done_token_taken,
    PasswordChanged = "password" done_password,
    SignedOut = "signed-out" done_signed_out,
    HandingOver = "handing-over" done_handing_over,
    AddressSet = "address" done_address,
    NodeRemoved = "node-removed" done_node_removed,
}

/// What was done, with the run or number it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    code: Code,
    number: Option<i64>,
}

/// Its part of a page's address.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DoneQuery {
    #[serde(default)]
    done: String,
    #[serde(default)]
    n: String,
}

impl DoneQuery {
    /// The words, if the address holds a code.
    pub(crate) fn words(&self) -> Option<Phrase> {
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == self.done)?;
        Some(Done { code, number: self.n.parse().ok() }.words())
    }
}

impl From<Code> for Done {
    fn from(code: Code) -> Self {
        Self { code, number: None }
    }
}

impl Done {
    /// About a run.
    pub(crate) fn run(code: Code, execution: ExecutionId) -> Self {
        Self { code, number: Some(execution.0) }
    }

    /// About so many things.
    pub(crate) fn count(code: Code, n: usize) -> Self {
        Self { code, number: i64::try_from(n).ok() }
    }

    fn words(self) -> Phrase {
        self.code.text().with("n", self.number.map_or_else(String::new, |n| n.to_string()))
    }

    /// Answers whoever asked: JSON for a script, else back to the page the form stood on (or `otherwise`).
    pub(crate) fn answer(self, headers: &HeaderMap, base: &BasePath, otherwise: &str) -> Response {
        if wants_json(headers) {
            let mut body = serde_json::json!({ "ok": true, "text": self.words().plain() });
            let of_run = matches!(self.code, Code::Run | Code::RunLater | Code::Again | Code::Cancelled);
            if let Some(execution) = self.number.filter(|_| of_run) {
                body["execution"] = execution.into();
            }
            return (StatusCode::OK, Json(body)).into_response();
        }
        self.redirect(&back(headers, base).unwrap_or_else(|| otherwise.to_owned()))
    }

    /// Goes to a page of ours, which will say it.
    pub(crate) fn redirect(self, to: &str) -> Response {
        let (path, query) = to.split_once('?').unwrap_or((to, ""));
        let mut target = format!("{path}?");
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if !pair.starts_with("done=") && !pair.starts_with("n=") {
                target.push_str(pair);
                target.push('&');
            }
        }
        target.push_str("done=");
        target.push_str(self.code.as_str());
        if let Some(number) = self.number {
            target.push_str("&n=");
            target.push_str(&number.to_string());
        }
        Redirect::to(&target).into_response()
    }
}

/// The page of ours that the form stood on, if the browser says so; without the base path.
pub(crate) fn back(headers: &HeaderMap, base: &BasePath) -> Option<String> {
    let from: Uri = headers.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    if from.authority()?.as_str() != host {
        return None;
    }
    let whole = base.within(from.path_and_query()?.as_str())?;
    (local_path(whole) == whole).then(|| whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(referer: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "box:8080".parse().unwrap());
        headers.insert(header::REFERER, referer.parse().unwrap());
        headers
    }

    #[test]
    fn browsers_go_back_to_the_page_with_a_code() {
        let done = Done::run(Code::Run, ExecutionId(12));
        let response = done.answer(
            &headers("http://box:8080/sb/status?level=warn&done=paused&n=3"),
            &"/sb".parse().unwrap(),
            "/status",
        );
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.headers()[header::LOCATION], "/status?level=warn&done=run&n=12");
    }

    #[test]
    fn a_foreign_page_is_not_gone_back_to() {
        for foreign in ["http://evil/status", "http://box:8080.evil/", "nonsense", "http://box:8080//evil"] {
            let response = Done::from(Code::Paused).answer(&headers(foreign), &BasePath::default(), "/executions");
            assert_eq!(response.headers()[header::LOCATION], "/executions?done=paused", "{foreign}");
        }
    }

    #[test]
    fn only_known_codes_become_words() {
        let query = |done: &str, n: &str| DoneQuery { done: done.to_owned(), n: n.to_owned() };
        assert!(query("run", "12").words().unwrap().plain().contains("12"));
        assert!(query("<script>", "").words().is_none());
        assert!(!query("run", "<b>").words().unwrap().to_string().contains("<b>"));
    }
}
