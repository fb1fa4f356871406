//! The one place that decides who may do what. The table is a snapshot test: a reviewer reads it
//! without reading code.

use crate::{Actor, Error, Result};
use contract::{account::Role, key::Scope};

/// Everything that needs a right. Ownership (`my` conversation) is checked beside the query, in `store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Use chats, prompt history and temporary chats.
    Chat,
    /// Read and change the own profile, password, sessions; delete the own account.
    ManageOwnAccount,
    /// See the own token usage.
    SeeOwnUsage,
    /// List models and use them from a program.
    UseModels,
    /// Administer a tenant's AI services.
    AdministerServices,
    /// Administer the platform: tenants, workers, health.
    AdministerSystem,
}

impl Action {
    /// All actions, for the permission table.
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::ManageOwnAccount, Self::SeeOwnUsage, Self::UseModels, Self::AdministerServices, Self::AdministerSystem];

    /// Any one of these roles suffices.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Chat => &[Role::User],
            Self::ManageOwnAccount | Self::SeeOwnUsage => &[Role::User, Role::ServiceAdmin, Role::SystemAdmin],
            Self::UseModels => &[],
            Self::AdministerServices => &[Role::ServiceAdmin],
            Self::AdministerSystem => &[Role::SystemAdmin],
        }
    }

    /// The scope that a program's key must have; `None`: no key opens it.
    #[must_use]
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::UseModels => Some(Scope::Inference),
            _ => None,
        }
    }
}

impl Actor {
    /// Passes if one of the person's roles or one of the key's scopes allows the action; jobs have neither and are
    /// refused.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn may(&self, action: Action) -> Result<()> {
        match self.as_program() {
            Some(program) if action.scope().is_some_and(|scope| program.scopes.contains(&scope)) => Ok(()),
            Some(_) => Err(Error::forbidden("The scopes of this key do not allow this.")),
            None if action.roles().iter().any(|role| self.has(*role)) => Ok(()),
            None => Err(Error::forbidden("Your roles do not allow this.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action;
    use contract::{account::Role, key::Scope};

    #[test]
    fn the_permission_table_is_the_one_that_was_agreed() {
        let roles = [Role::User, Role::ServiceAdmin, Role::SystemAdmin];
        let table: Vec<String> = Action::ALL
            .iter()
            .map(|action| {
                let cells: Vec<&str> = roles.iter().map(|role| if action.roles().contains(role) { "yes" } else { "-" }).collect();
                format!("{action:?}: {} {}", cells.join(" "), action.scope().map_or("-", Scope::name))
            })
            .collect();
        assert_eq!(
            table,
            [
                "Chat: yes - - -",
                "ManageOwnAccount: yes yes yes -",
                "SeeOwnUsage: yes yes yes -",
                "UseModels: - - - inference",
                "AdministerServices: - yes - -",
                "AdministerSystem: - - yes -",
            ],
            "If you are here because this failed: a right was widened or narrowed. Columns: user, service admin, system admin, scope of a key."
        );
    }
}
