//! Floor 3: who asks, and may they.

pub mod access;
mod failures;
pub mod password;
pub mod sign_in;
mod throttle;
pub mod token;
