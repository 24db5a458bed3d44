//! Users: who may come in, and making new ones.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::SecretString;

use crate::control::Refusal;
use crate::control::users::{CreatedUser, WantedUser};
use crate::model::user::{ServiceRole, User};
use crate::web::WebState;
use crate::web::asked::{Behind, Nothing};
use crate::web::form::{Acting, Posted};
use crate::web::html::Html;
use crate::web::moment::{ago, stamp};
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/users.html")]
struct UsersPage {
    t: &'static Texts,
    frame: Frame,
    users: Vec<UserRow>,
    typed: Typed,
    fault: Option<Phrase>,
    roles: Vec<RoleChoice>,
}

/// The page that shows a token, once.
#[derive(Template)]
#[template(path = "steps/token.html")]
pub(crate) struct TokenPage {
    t: &'static Texts,
    frame: Frame,
    name: String,
    token: SecretString,
}

struct UserRow {
    user: User,
    roles: String,
    created: Html,
    last: Option<Html>,
    me: bool,
}

/// What was typed into the form, but for the password.
#[derive(Default)]
struct Typed {
    name: String,
    email: String,
    token: bool,
}

/// A role that can be ticked.
pub(crate) struct RoleChoice {
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    pub(crate) chosen: bool,
}

/// Every role, these of them ticked.
pub(crate) fn roles(chosen: &[ServiceRole]) -> Vec<RoleChoice> {
    ServiceRole::ALL
        .into_iter()
        .map(|role| RoleChoice {
            value: role.as_str(),
            help: match role {
                ServiceRole::ServiceAdmin => EN.role_admin,
                ServiceRole::AdminViewer => EN.role_viewer,
                ServiceRole::MetricsViewer => EN.role_metrics,
            },
            chosen: chosen.contains(&role),
        })
        .collect()
}

/// The roles ticked in a form; unknown ones are refused.
pub(crate) fn chosen(form: &Posted) -> Result<Vec<ServiceRole>, Problem> {
    form.fields
        .all("role")
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|bad| Problem::new(StatusCode::BAD_REQUEST, "{text}".with("text", bad)))
}

/// The page that shows a new token, this once.
pub(crate) async fn show_token(web: &WebState, form: &Posted, name: &str, token: SecretString) -> Response {
    let frame = Frame::new(web, &form.who, Place::Users, EN.token_title.with("name", name).plain()).await;
    show(&TokenPage { t: EN, frame, name: name.to_owned(), token })
}

/// GET `/users`
pub(crate) async fn users(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let frame = Frame::new(&web, &who, Place::Users, EN.menu_users).await.noting(&done);
    let page = list(&web, frame, &who, Typed::default(), &[ServiceRole::AdminViewer], None).await?;
    Ok(show(&page))
}

async fn list(
    web: &WebState,
    frame: Frame,
    who: &SignedIn,
    typed: Typed,
    ticked: &[ServiceRole],
    fault: Option<Phrase>,
) -> Result<UsersPage, Problem> {
    let users = web.store.users().await?;
    let rows = users.into_iter().map(|user| UserRow {
        roles: user.service_roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", "),
        created: stamp(user.created_at),
        last: user.last_sign_in_at.map(ago),
        me: user.uuid == who.session.user.uuid,
        user,
    });
    Ok(UsersPage { t: EN, frame, users: rows.collect(), typed, fault, roles: roles(ticked) })
}

/// POST `/users`: makes a user with a password, a token or both. A token is shown in the answer, and never again.
pub(crate) async fn create(State(web): State<WebState>, Acting(form): Acting) -> Result<Response, Problem> {
    let ticked = chosen(&form)?;
    let typed = Typed {
        name: form.fields.get("name").trim().to_owned(),
        email: form.fields.get("email").trim().to_owned(),
        token: form.fields.get("with_token") == "1",
    };
    let wanted = WantedUser {
        name: typed.name.clone(),
        email: typed.email.clone(),
        roles: ticked.clone(),
        password: (!form.fields.get("password").is_empty()).then(|| form.fields.secret("password")),
        token: typed.token,
    };
    let mut frame = Frame::new(&web, &form.who, Place::Users, EN.menu_users).await;
    match web.control.create_user(&form.actor(), web.sign_in.passwords(), wanted).await {
        Ok(CreatedUser { user, token: Some(token) }) => Ok(show_token(&web, &form, user.name.as_str(), token).await),
        Ok(CreatedUser { user, token: None }) => {
            frame.notice = Some(EN.user_created.with("name", user.name));
            let page = list(&web, frame, &form.who, Typed::default(), &[ServiceRole::AdminViewer], None).await?;
            Ok(show_as(StatusCode::CREATED, &page))
        }
        Err(refusal @ (Refusal::Invalid(_) | Refusal::Conflict(_) | Refusal::Busy(_))) => {
            let problem = Problem::from(refusal);
            let page = list(&web, frame, &form.who, typed, &ticked, Some(problem.text)).await?;
            Ok(show_as(problem.status, &page))
        }
        Err(refusal) => Err(refusal.into()),
    }
}
