//! Nodes: who is primary, where each is reached, and forgetting one.

use std::sync::Arc;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::status::nodes_now;
use crate::api::types::Done;
use crate::api::types::state::{AddressBody, HandOverAnswer, HandOverBody};

/// `POST /api/primary:handOver`.
pub(crate) async fn hand_over(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: HandOverBody = call.json_or_default()?;
    let asked = api.control.hand_over(call.actor(), body.to.as_deref()).await?;
    Ok(Answer::json(&HandOverAnswer { from: asked.from, to: asked.to }))
}

/// `PUT /api/nodes/{id}/address`.
pub(crate) async fn set_address(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: AddressBody = call.json()?;
    if body.address.trim().is_empty() {
        return Err(ApiError::invalid("address: it is empty; DELETE puts the node's own word back in force"));
    }
    change(&api, &call, Some(&body.address)).await
}

/// `DELETE /api/nodes/{id}/address`.
pub(crate) async fn clear_address(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    change(&api, &call, None).await
}

/// `POST /api/nodes/{id}:remove`.
pub(crate) async fn remove(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    api.control.remove_node(call.actor(), call.parameter(0)).await?;
    Ok(Answer::json(&Done {}))
}

async fn change(api: &Api, call: &Call, address: Option<&str>) -> Result<Answer, ApiError> {
    let id = call.parameter(0);
    api.control.set_address(call.actor(), id, address).await?;
    let nodes = nodes_now(api).await?.nodes;
    match nodes.into_iter().find(|node| node.id.as_str() == id) {
        Some(node) => Ok(Answer::json(&node)),
        None => Err(ApiError::not_found("this node has been removed meanwhile")),
    }
}
