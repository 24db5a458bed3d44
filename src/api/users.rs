//! Users, and what they did.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::types::Done;
use crate::api::types::users::{
    AuditAnswer, AuditItem, RolesBody, TokenAnswer, UserBody, UserCreated, UserItem, UsersAnswer,
};
use crate::control::users::WantedUser;
use crate::model::user::User;
use crate::store::audit::AuditFilter;

/// How many entries an answer holds, unless it is asked for another number.
const DEFAULT_LIMIT: u32 = 100;
/// How many it holds at most.
const MOST: u32 = 1_000;

/// `GET /api/users`.
pub(crate) async fn list(api: Arc<Api>, _call: Call) -> Result<Answer, ApiError> {
    let users = api.store.users().await?.into_iter().map(item).collect();
    Ok(Answer::json(&UsersAnswer { users }))
}

/// `POST /api/users`.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: UserBody = call.json()?;
    let wanted = WantedUser {
        name: body.name,
        email: body.email,
        roles: body.roles,
        password: body.password.map(SecretString::from),
        token: body.token,
    };
    let created = api.control.create_user(call.actor(), api.sign_in.passwords(), wanted).await?;
    let token = created.token.map(|token| token.expose_secret().to_owned());
    Ok(Answer::json(&UserCreated { user: item(created.user), token }))
}

/// `PUT /api/users/{name}`.
pub(crate) async fn set_roles(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: RolesBody = call.json()?;
    let user = api.control.set_roles(call.actor(), call.parameter(0), &body.roles).await?;
    Ok(Answer::json(&item(user)))
}

/// `DELETE /api/users/{name}`.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    api.control.delete_user(call.actor(), call.parameter(0)).await?;
    Ok(Answer::json(&Done {}))
}

/// `POST /api/users/{name}:refreshToken`.
pub(crate) async fn refresh_token(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    let token = api.control.new_token(call.actor(), call.parameter(0)).await?;
    let name = call.parameter(0).to_owned();
    Ok(Answer::json(&TokenAnswer { name, token: token.expose_secret().to_owned() }))
}

/// `GET /api/audit`.
pub(crate) async fn audit(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let limit = call.limit(DEFAULT_LIMIT, MOST)?;
    let filter = AuditFilter {
        who: call.text("who").map(str::to_owned),
        action: call.text("action").map(str::to_owned),
        subject: call.text("subject").map(str::to_owned),
        before: call.number("before", 1, i64::MAX)?,
        limit,
    };
    let entries: Vec<_> = api
        .store
        .audit(&filter)
        .await?
        .into_iter()
        .map(|entry| AuditItem {
            id: entry.id,
            at: entry.at,
            who: entry.who,
            address: entry.address,
            action: entry.action,
            subject: entry.subject,
            result: entry.result,
        })
        .collect();
    let full = entries.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = entries.last().filter(|_| full).map(|last| last.id);
    Ok(Answer::json(&AuditAnswer { entries, next }))
}

fn item(user: User) -> UserItem {
    UserItem {
        uuid: user.uuid,
        name: user.name.to_string(),
        email: user.email,
        roles: user.service_roles,
        has_password: user.has_password,
        has_token: user.has_token,
        created_at: user.created_at,
        last_sign_in_at: user.last_sign_in_at,
    }
}
