//! What a change of a setting leads to, told before it is saved: whom it concerns, and what happens there.

use crate::config::diff::{Concerned, Need, concerned, need};
use crate::config::schema::Setting;
use crate::model::node::Node;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::setting_field::Book;
use crate::web::texts::EN;

/// The nodes that live and use this setting, by name.
pub(crate) fn nodes(book: &Book, setting: &Setting) -> String {
    let uses = |node: &&Node| match concerned(setting) {
        Concerned::Service => node.role.has_service(),
        Concerned::Web => node.role.has_web(),
        Concerned::Every => true,
    };
    let names: Vec<&str> = book.living().iter().filter(uses).map(|node| node.id.as_str()).collect();
    if names.is_empty() { EN.no_node_lives.to_owned() } else { names.join(", ") }
}

/// What people should know before they save. Both values as they will be in force; of a secret anything that differs.
pub(crate) fn warnings(book: &Book, setting: &Setting, from: &str, to: &str) -> Vec<Phrase> {
    let text = match need(setting, from, to) {
        Need::Nothing => None,
        Need::Relink => Some(EN.review_relink),
        Need::Rekey => Some(EN.review_rekey),
        Need::Admit => Some(EN.review_networks),
        Need::Haste => Some(EN.review_haste),
        Need::Load => Some(EN.review_load),
        Need::SignOut => Some(EN.review_sign_out),
        Need::Forget => Some(EN.review_forget),
        Need::Delete => Some(EN.review_delete),
    };
    let fixed_on = book.fixed_on(setting);
    let fixed =
        (!fixed_on.is_empty()).then(|| EN.review_fixed.count(fixed_on.len() as u64).with("nodes", fixed_on.join(", ")));
    text.map(Phrase::from).into_iter().chain(fixed).collect()
}
