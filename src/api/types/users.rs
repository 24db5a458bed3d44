//! Users and what they did, as `/api` tells and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::Timestamp;
use crate::model::user::ServiceRole;

/// What users did, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditAnswer {
    /// Newest first.
    pub entries: Vec<AuditItem>,
    /// Give this as `before` to see older ones; none if there are none.
    pub next: Option<i64>,
}

/// Who did what.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditItem {
    /// Rises with time.
    pub id: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// From where.
    pub address: String,
    /// What, as `noun:verb`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What came of it.
    pub result: String,
}

/// Every user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsersAnswer {
    /// By name.
    pub users: Vec<UserItem>,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserItem {
    /// Never changes.
    pub uuid: String,
    /// What it signs in with.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<ServiceRole>,
    /// Whether it can sign in to the pages.
    pub has_password: bool,
    /// Whether it has a token.
    pub has_token: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last signed in.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_sign_in_at: Option<Timestamp>,
}

/// A user to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserBody {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// May be left out.
    #[serde(default)]
    pub email: String,
    /// At least one of `service_admin`, `admin_viewer`, `metrics_viewer`.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<ServiceRole>,
    /// To sign in with; 10 characters at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it gets a token.
    #[serde(default)]
    pub token: bool,
}

/// A user that was made.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct UserCreated {
    /// Who.
    pub user: UserItem,
    /// Its token, if it got one. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A user's new roles.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolesBody {
    /// At least one.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<ServiceRole>,
}

/// A user's new token.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// Whose.
    pub name: String,
    /// It is not shown again.
    pub token: String,
}
