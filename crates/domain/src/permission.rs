//! The one place that decides who may do what. The table is a snapshot test: a reviewer reads it
//! without reading code.

use crate::{Actor, Error, Result};
use contract::account::Role;

/// Everything that needs a right. Ownership (`my` conversation) is checked beside the query, in `store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Use chats, prompt history and temporary chats.
    Chat,
    /// Read and change the own profile, password, sessions; delete the own account.
    ManageOwnAccount,
    /// See the own token usage.
    SeeOwnUsage,
    /// Administer a tenant's AI services.
    AdministerServices,
    /// Administer the platform: tenants, workers, health.
    AdministerSystem,
}

impl Action {
    /// All actions, for the permission table.
    pub const ALL: [Self; 5] = [Self::Chat, Self::ManageOwnAccount, Self::SeeOwnUsage, Self::AdministerServices, Self::AdministerSystem];

    /// Any one of these roles suffices.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Chat => &[Role::User],
            Self::ManageOwnAccount | Self::SeeOwnUsage => &[Role::User, Role::ServiceAdmin, Role::SystemAdmin],
            Self::AdministerServices => &[Role::ServiceAdmin],
            Self::AdministerSystem => &[Role::SystemAdmin],
        }
    }
}

impl Actor {
    /// Passes if one of the actor's roles allows the action; jobs have no roles and are refused.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn may(&self, action: Action) -> Result<()> {
        if action.roles().iter().any(|role| self.has(*role)) { Ok(()) } else { Err(Error::forbidden("Your roles do not allow this.")) }
    }
}

#[cfg(test)]
mod tests {
    use super::Action;
    use contract::account::Role;

    #[test]
    fn the_permission_table_is_the_one_that_was_agreed() {
        let roles = [Role::User, Role::ServiceAdmin, Role::SystemAdmin];
        let table: Vec<String> = Action::ALL
            .iter()
            .map(|action| {
                let cells: Vec<&str> = roles.iter().map(|role| if action.roles().contains(role) { "yes" } else { "-" }).collect();
                format!("{action:?}: {}", cells.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "Chat: yes - -",
                "ManageOwnAccount: yes yes yes",
                "SeeOwnUsage: yes yes yes",
                "AdministerServices: - yes -",
                "AdministerSystem: - - yes",
            ],
            "If you are here because this failed: a right was widened or narrowed. Columns: user, service admin, system admin."
        );
    }
}
