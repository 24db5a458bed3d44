//! What a test says in one line: a stage, a node, a browser, a robot, a socket, a wait.

pub(crate) mod balancer;
pub(crate) mod books;
pub(crate) mod browser;
pub(crate) mod cable;
pub(crate) mod cluster;
pub(crate) mod gate;
pub(crate) mod node;
pub(crate) mod output;
pub(crate) mod robot;
pub(crate) mod socket;
pub(crate) mod stage;
pub(crate) mod wait;
pub(crate) mod witness;
pub(crate) mod writer;
