//! Hand over the primary, say where a node is reached, forget a node.

use std::time::Duration;

use crate::base::id::NodeId;
use crate::config::address::{self, Address};
use crate::config::schema::name::STALE_TIME;
use crate::config::settings::Settings;
use crate::control::{Actor, Control, Refusal, quoted};
use crate::model::node::Node;
use crate::store::error::Error;

/// A hand-over that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Who is primary now.
    pub from: NodeId,
    /// Who is to be; none: whichever comes first.
    pub to: Option<NodeId>,
}

impl Control {
    /// Asks the primary to hand over, to a certain node or to any. It begins nothing more and gives its place away within a
    /// moment, for it hears of every change of the database; runs that go on end where they are.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], or [`Refusal::Conflict`] if nobody is primary, that node is already, or
    /// nobody lives who could be.
    pub async fn hand_over(&self, actor: &Actor, to: Option<&str>) -> Result<HandOver, Refusal> {
        actor.must_act()?;
        let nodes = self.store.nodes().await?;
        let leadership = self.store.leadership().await?;
        let Some(from) = leadership.primary().cloned() else {
            return Err(Refusal::Conflict("nobody is primary now: the next service node that lives becomes it".into()));
        };
        let (now, patience) = (self.clock.now(), self.stale_time().await?);
        let could_be = |node: &Node| node.role.has_service() && node.id != from && node.lives(now, patience);
        let to = match to {
            Some(name) => {
                let node = found(&nodes, name)?;
                if node.id == from {
                    return Err(Refusal::Conflict(format!("{name} is the primary already")));
                }
                if !node.role.has_service() {
                    return Err(Refusal::Conflict(format!("{name} is a web node: only a service node can be primary")));
                }
                if !could_be(node) {
                    return Err(Refusal::Conflict(format!("{name} does not live: start it, or choose another node")));
                }
                Some(node.id.clone())
            }
            None if !nodes.iter().any(could_be) => {
                return Err(Refusal::Conflict(format!(
                    "no other service node lives, so {from} stays the primary; start another one on this database first"
                )));
            }
            None => None,
        };
        let mut transaction = self.store.begin().await?;
        if !transaction.ask_hand_over(&actor.who, to.as_ref()).await? {
            return Err(Refusal::Conflict("the primary has changed meanwhile: look again".into()));
        }
        let result = match &to {
            Some(to) => format!("{from} is asked to hand over to {to}"),
            None => format!("{from} is asked to hand over to any other node"),
        };
        self.audit(&mut transaction, actor, "primary:handOver", from.as_str(), result).await?;
        transaction.commit().await?;
        Ok(HandOver { from, to })
    }

    /// Says where web nodes reach a service node, whatever it says itself; none or empty: where it says.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], or [`Refusal::Invalid`] if it is no address or a web node's.
    pub async fn set_address(
        &self,
        actor: &Actor,
        node: &str,
        address: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        actor.must_act()?;
        let address = match address.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                let address = Address::parse(text)
                    .map_err(|why| Refusal::invalid("address", format!("{why}; allowed: {}", address::ALLOWED)))?;
                Some(address.to_string())
            }
            None => None,
        };
        let mut transaction = self.store.begin().await?;
        let nodes = self.store.nodes().await?;
        let known = found(&nodes, node)?;
        if address.is_some() && !known.role.has_service() {
            return Err(Refusal::invalid("address", "a web node is dialled by nobody: only service nodes have one"));
        }
        let was = known.address_override.clone();
        if was != address {
            transaction.override_address(&known.id, address.as_deref()).await?;
            let word = |address: Option<&String>| address.map_or("what it says itself".to_owned(), Clone::clone);
            let result = format!("from {} to {}", word(was.as_ref()), word(address.as_ref()));
            self.audit(&mut transaction, actor, "node:address", known.id.as_str(), result).await?;
            transaction.commit().await?;
        }
        Ok(address)
    }

    /// Forgets a node that does not live any more, with all it said. Its runs and lines stay.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], or [`Refusal::Conflict`] while it lives or is primary.
    pub async fn remove_node(&self, actor: &Actor, node: &str) -> Result<(), Refusal> {
        actor.must_act()?;
        let mut transaction = self.store.begin().await?;
        let nodes = self.store.nodes().await?;
        let known = found(&nodes, node)?;
        if known.lives(self.clock.now(), self.stale_time().await?) {
            return Err(Refusal::Conflict(format!(
                "{} lives: stop it first; a node that runs would be missing here and work on",
                known.id
            )));
        }
        if self.store.leadership().await?.primary() == Some(&known.id) {
            return Err(Refusal::Conflict(format!(
                "{} is the primary until its term ends, in a few seconds: try again then",
                known.id
            )));
        }
        transaction.remove_node(&known.id).await?;
        let result = format!("{} on {}, last seen {}", known.role, known.host, known.heartbeat_at);
        self.audit(&mut transaction, actor, "node:remove", known.id.as_str(), result).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// How long a silent node is taken to live still.
    async fn stale_time(&self) -> Result<Duration, Error> {
        let stored = self.store.settings().await?;
        let pairs = stored.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
        Ok(Settings::resolve(&self.fixed, pairs).0.duration(STALE_TIME))
    }
}

fn found<'a>(nodes: &'a [Node], name: &str) -> Result<&'a Node, Refusal> {
    nodes.iter().find(|node| node.id.as_str() == name).ok_or_else(|| {
        let known: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        Refusal::NotFound(format!("there is no node {}; there are: {}", quoted(name), known.join(", ")))
    })
}
