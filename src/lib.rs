//! Switchboard runs the background work of an application on service nodes and shows administrators every dispatcher's state and
//! every log line the moment it happens.

pub mod base;
pub mod config;
pub mod model;
pub mod protocol;
pub mod messenger;
pub mod store;
pub mod auth;
pub mod control;
pub mod service;
pub mod live;
pub mod web;
pub mod api;
