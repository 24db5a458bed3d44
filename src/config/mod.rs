//! Floor 1: configuration: what the operator says before the start, and the settings that can change while running.

pub mod address;
pub mod base_path;
pub mod database;
pub mod diff;
pub mod endpoint;
pub mod export;
pub mod file;
pub mod job;
pub mod problem;
pub mod program;
pub mod schema;
pub mod settings;
pub mod together;
pub mod value;
