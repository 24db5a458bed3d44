//! One user: its roles, password and token, and the way to delete it.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::model::user::User;
use crate::web::WebState;
use crate::web::asked::{Behind, InPath, Nothing};
use crate::web::form::Acting;
use crate::web::html::Html;
use crate::web::moment::{ago, stamp};
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show};
use crate::web::pages::users::{RoleChoice, chosen, roles, show_token};
use crate::web::phrase::Fill as _;
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/user.html")]
struct UserPage {
    t: &'static Texts,
    frame: Frame,
    roles: Vec<RoleChoice>,
    created: Html,
    last: Option<Html>,
    me: bool,
    user: User,
}

/// GET `/users/{name}`
pub(crate) async fn user(
    State(web): State<WebState>,
    who: SignedIn,
    InPath(name): InPath<String>,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let user = found(&web, &name).await?;
    let page = UserPage {
        t: EN,
        frame: Frame::new(&web, &who, Place::Users, user.name.to_string()).await.noting(&done),
        roles: roles(&user.service_roles),
        created: stamp(user.created_at),
        last: user.last_sign_in_at.map(ago),
        me: user.uuid == who.session.user.uuid,
        user,
    };
    Ok(show(&page))
}

async fn found(web: &WebState, name: &str) -> Result<User, Problem> {
    let user = web.store.user_by_name(name).await?;
    user.map(|(user, _)| user).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, EN.no_such_user.with("name", name)))
}

/// POST `/users/{name}/{verb}`: roles, password, token, no-token or delete.
pub(crate) async fn act(
    State(web): State<WebState>,
    InPath((name, verb)): InPath<(String, String)>,
    Acting(form): Acting,
) -> Result<Response, Problem> {
    let here = format!("/users/{}", found(&web, &name).await?.name);
    let actor = form.actor();
    let code = match verb.as_str() {
        "roles" => {
            web.control.set_roles(&actor, &name, &chosen(&form)?).await?;
            Code::RolesChanged
        }
        "password" => {
            let password = form.fields.secret("password");
            web.control.set_user_password(&actor, web.sign_in.passwords(), &name, password).await?;
            Code::PasswordSet
        }
        "token" => {
            let token = web.control.new_token(&actor, &name).await?;
            return Ok(show_token(&web, &form, &name, token).await);
        }
        "no-token" => {
            web.control.revoke_token(&actor, &name).await?;
            Code::TokenTaken
        }
        "delete" if form.fields.get("confirm") == name => {
            web.control.delete_user(&actor, &name).await?;
            return Ok(Done::from(Code::UserDeleted).redirect("/users"));
        }
        "delete" => {
            let text = EN.user_delete_confirm.with("name", &name);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        _ => return Err(Problem::not_found()),
    };
    Ok(Done::from(code).answer(&form.headers, &web.base, &here))
}
