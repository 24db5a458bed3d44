//! Switchboard runs an application's background work on service nodes, shows administrators every dispatcher's state and every
//! log line the moment it happens, and will carry messages between independent applications.
//!
//! ```text
//!      service node                                                web node
//!  ┌──────────────────┐   reports   ┌─────────────────┐   reports  ┌─────────────────────┐
//!  │ dispatchers  log │ ──────────▶ │    messenger    │ ─────────▶ │ feed ▶ hub ▶ viewers │ ─▶ browser
//!  │   runner ▶ feed  │             │ envelope        │            │         pages        │
//!  └──────────────────┘ ◀────────── │ secure channel  │ ◀───────── └─────────────────────┘
//!          │             commands   │ pipe tcp memory │  commands             │
//!          │                        └─────────────────┘                       │
//!          ▼                                                                  ▼
//!  ┌───────────────────────────────────── store ───────────────────────────────────────────┐
//!  │                           SQLite or PostgreSQL: the truth                             │
//!  └───────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Three sentences that make it simple:
//!
//! - **Data goes one way**: service → messenger → web → browser. What goes back is a command, and there are few of them.
//! - **The messenger is quick, the store is true.** Whatever a user asks for is first a row, then a wake-up. With the messenger
//!   away a service that runs takes it up within the poll interval, and the page says so.
//! - **One process is the same as two.** Role `all` starts both nodes, joined by the local pipe as two processes would be.
//!
//! # Floors
//!
//! A room imports from lower floors only, or from the neighbour named here; `tests/architecture.rs` keeps it so.
//!
//! | floor | rooms | know about |
//! |---|---|---|
//! | 5 roof | [`app`] | everything; wires it |
//! | 4 windows | [`web`], [`api`] | requests, pages, JSON; never `service` |
//! | 3 workshops | [`service`], [`live`], [`control`] (uses `auth`), [`auth`] | what the product does |
//! | 2 plumbing | [`messenger`], [`store`] | bytes and rows; bodies are opaque to the messenger |
//! | 1 language | [`config`], [`model`], [`protocol`] (uses `model`) | settings, nouns, and what nodes say |
//! | 0 ground | [`base`] | time, ids, rings, stopping |
//!
//! # Words
//!
//! A *dispatcher* is a named loop: due or told, it runs once and reports; an *execution* is one such run; a *job* is a dispatcher
//! the operator declared. *Reports* go up (state, events, lines), *commands* go down. *State* is the fold of numbered *events* by
//! one `apply` on both sides. A *link* is a way to one peer, a *transport* how it is made, a *frame* the unit on it; an
//! *envelope* is one message. The *feed* sends, the *hub* collects, a *viewer* is one browser. An *epoch* is one life of a
//! service node; `epoch:seq` is a place in its log.
//!
//! # Reading order
//!
//! [`protocol`] (everything nodes say) → [`messenger`] with one transport → `service::runner` → [`live::hub`] → `web::viewer`.

pub mod base;

pub mod config;
pub mod model;
pub mod protocol;

pub mod messenger;
pub mod store;

pub mod auth;
pub mod control;
pub mod live;
pub mod service;

pub mod api;
pub mod web;

pub mod app;
