//! The real program, as users run it: started, killed, asked over HTTP and on its command line.
//!
//! One binary, linked once. Every test has a [`support::stage::Stage`]: a folder of its own and its turn on the machine; tests that
//! measure time run alone. They wait for what happens, with a deadline, and never just for time to pass.

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod applied;
#[cfg(test)]
mod balancer;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod live;
#[cfg(test)]
mod on_postgres;
#[cfg(test)]
#[path = "../shared/postgres.rs"]
mod postgres;
#[cfg(test)]
#[path = "../shared/postgres_server.rs"]
mod postgres_server;
#[cfg(test)]
mod reliability;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod start;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod support;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod work;
