//! Roles and what they allow; everything is denied unless allowed.

use crate::model::user::{ServiceRole, User};

/// What can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See pages, state, logs, settings (never secrets), users, audit.
    Look,
    /// Do anything: run, pause, cancel, change settings and users.
    Act,
    /// Read `/metrics`.
    Metrics,
}

/// Whether this user may.
#[must_use]
pub fn may(user: &User, right: Right) -> bool {
    allow(&user.service_roles, right)
}

/// Whether somebody with these roles may.
#[must_use]
pub fn allow(roles: &[ServiceRole], right: Right) -> bool {
    let has = |role| roles.contains(&role);
    match right {
        Right::Act => has(ServiceRole::ServiceAdmin),
        Right::Look => has(ServiceRole::ServiceAdmin) || has(ServiceRole::AdminViewer),
        Right::Metrics => ServiceRole::ALL.into_iter().any(has),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_denied_unless_allowed() {
        use ServiceRole::{AdminViewer, MetricsViewer, ServiceAdmin};
        for (roles, act, look, metrics) in [
            (&[][..], false, false, false),
            (&[MetricsViewer], false, false, true),
            (&[AdminViewer], false, true, true),
            (&[ServiceAdmin], true, true, true),
            (&[AdminViewer, MetricsViewer], false, true, true),
        ] {
            let got = (allow(roles, Right::Act), allow(roles, Right::Look), allow(roles, Right::Metrics));
            assert_eq!(got, (act, look, metrics), "{roles:?}");
        }
    }
}
