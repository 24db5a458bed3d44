//! Floor 1: the nouns that are stored, with their rules.

pub mod audit;
pub mod execution;
pub mod log_entry;
pub mod node;
pub mod setting;
pub mod user;
