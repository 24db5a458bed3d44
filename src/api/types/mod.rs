//! What answers and bodies of `/api` hold: the same structs write them here and read them in the command line.

pub mod executions;
pub mod logs;
pub mod settings;
pub mod state;
pub mod users;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error, in the shape every failed answer has.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The same as the HTTP status.
    pub code: u16,
    /// For people: what was wrong, what is allowed, what to do.
    pub message: String,
    /// For programs: `NOT_FOUND`, `INVALID_ARGUMENT`, …
    pub status: String,
    /// What is wrong with which field, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Which field, header or setting.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Done {}

/// An OpenAPI document.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Document {
    /// The version of OpenAPI it is written in.
    pub openapi: String,
    /// Everything else that OpenAPI allows.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}
