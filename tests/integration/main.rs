//! Everything that is tested through the rooms' own doors, in one program: linked once.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends here, and says where")]

mod api;
mod auth;
mod control;
mod errors;
mod front;
mod jobs;
mod live;
mod messenger;
mod network;
mod nodes;
mod pages;
#[path = "../shared/postgres.rs"]
mod postgres;
#[path = "../shared/postgres_server.rs"]
mod postgres_server;
mod refusals;
mod service;
mod settings;
mod stores;
mod support;
mod transports;
