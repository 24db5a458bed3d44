//! One setting: its field, its history with the way back, and a secret's Replace and Generate.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::config::schema::{Setting, name};
use crate::config::settings::unknown_setting;
use crate::control::Refusal;
use crate::control::past::{self, Stand, Step};
use crate::web::WebState;
use crate::web::applied::OnNode;
use crate::web::asked::{Behind, InPath, Nothing};
use crate::web::form::{Acting, Posted};
use crate::web::html::Html;
use crate::web::moment::stamp;
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::setting_field::{Book, Field};
use crate::web::texts::{EN, Texts};

/// Changes shown.
const CHANGES: u32 = 50;

#[derive(Template)]
#[template(path = "pages/setting.html")]
struct SettingPage {
    t: &'static Texts,
    frame: Frame,
    field: Field,
    can_generate: bool,
    can_revert: bool,
    fault: Option<Phrase>,
    nodes: Vec<OnNode>,
    history: Vec<Past>,
}

struct Past {
    version: i64,
    when: Html,
    who: String,
    from: String,
    to: String,
    /// What to save to go back to it; none for the present value and for secrets.
    back: Option<String>,
}

/// GET `/settings/{name}`
pub(crate) async fn setting(
    State(web): State<WebState>,
    who: SignedIn,
    InPath(name): InPath<String>,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let setting = known(&name)?;
    let frame = Frame::new(&web, &who, Place::Settings, setting.name).await.noting(&done);
    Ok(show(&page(&web, frame, setting, None).await?))
}

/// POST `/settings/{name}/generate`: a new messenger key.
pub(crate) async fn generate(
    State(web): State<WebState>,
    InPath(asked): InPath<String>,
    Acting(form): Acting,
) -> Result<Response, Problem> {
    let setting = known(&asked)?;
    if setting.name != name::MESSENGER_KEY {
        return Err(Problem::not_found());
    }
    let fault = if form.fields.get("confirm") == "1" {
        let at_once = form.fields.get("at_once") == "1";
        match web.control.generate_key(&form.actor(), form.fields.number("seen"), at_once).await {
            Ok(_) => {
                let code = if at_once { Code::KeyReplaced } else { Code::KeyGenerated };
                return Ok(Done::from(code).answer(&form.headers, &web.base, &format!("/settings/{}", setting.name)));
            }
            Err(Refusal::Conflict(_) | Refusal::Store(crate::store::error::Error::Conflict(_))) => {
                (StatusCode::CONFLICT, EN.key_conflict.into())
            }
            Err(refusal) => return Err(refusal.into()),
        }
    } else {
        (StatusCode::UNPROCESSABLE_ENTITY, Phrase::from(EN.key_confirm_missing))
    };
    let frame = Frame::new(&web, &form.who, Place::Settings, setting.name).await;
    Ok(show_as(fault.0, &page(&web, frame, setting, Some(fault.1)).await?))
}

/// A value of a secret that was refused: its own page again, with the reason beside the field. What was typed is not shown.
pub(crate) async fn refused(
    web: &WebState,
    form: &Posted,
    setting: &'static Setting,
    why: &str,
) -> Result<Response, Problem> {
    let frame = Frame::new(web, &form.who, Place::Settings, setting.name).await;
    let mut page = page(web, frame, setting, None).await?;
    page.field.fault = Some("{why}".with("why", why));
    Ok(show_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

fn known(name: &str) -> Result<&'static Setting, Problem> {
    Setting::find(name).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "{text}".with("text", unknown_setting(name))))
}

async fn page(
    web: &WebState,
    frame: Frame,
    setting: &'static Setting,
    fault: Option<Phrase>,
) -> Result<SettingPage, Problem> {
    let book = Book::read(web).await?;
    let changes = past::of(&web.store, setting, CHANGES).await?;
    // one that was cleared has no row, but its last change stands
    let present = changes.first().map_or(0, |last| last.version);
    let field = book.field(setting, None, None);
    Ok(SettingPage {
        t: EN,
        frame,
        can_generate: setting.name == name::MESSENGER_KEY && field.locked.is_none(),
        can_revert: field.locked.is_none(),
        history: changes.into_iter().map(|change| told(setting, change, present)).collect(),
        nodes: book.on_nodes(setting),
        field,
        fault,
    })
}

fn told(setting: &Setting, change: Step, present: i64) -> Past {
    let words = |stand: &Stand| match stand {
        Stand::Default if setting.secret => EN.value_unset.to_owned(),
        Stand::Default if setting.default.is_empty() => EN.value_default_empty.to_owned(),
        Stand::Default => EN.value_default.with("value", setting.default).plain(),
        Stand::Secret => EN.value_secret.to_owned(),
        Stand::Value(value) => value.clone(),
    };
    let back = match &change.to {
        Stand::Value(value) => value.clone(),
        Stand::Default | Stand::Secret => String::new(),
    };
    Past {
        version: change.version,
        when: stamp(change.changed_at),
        who: change.changed_by,
        from: words(&change.from),
        to: words(&change.to),
        back: (!setting.secret && change.version != present).then_some(back),
    }
}
