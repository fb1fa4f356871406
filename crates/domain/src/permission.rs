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
            Self::Chat => Some(Scope::Chat),
            Self::SeeOwnUsage => Some(Scope::Usage),
            Self::ManageOwnAccount | Self::AdministerServices | Self::AdministerSystem => None,
        }
    }
}

impl Actor {
    /// Passes if one of the person's roles or one of the key's scopes allows the action; jobs have neither and are
    /// refused.
    ///
    /// # Errors
    /// [`Error::Forbidden`]; to a program it says which scope is missing, or that no key opens it.
    pub fn may(&self, action: Action) -> Result<()> {
        let Some(program) = self.as_program() else {
            let allowed = action.roles().iter().any(|role| self.has(*role));
            return if allowed { Ok(()) } else { Err(Error::forbidden("Your roles do not allow this.")) };
        };
        match action.scope() {
            Some(scope) if program.scopes.contains(&scope) => Ok(()),
            Some(scope) => Err(Error::forbidden(format!("This needs a key with the scope `{}`.", scope.name()))),
            None => Err(Error::people_only()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action;
    use crate::{Actor, Program};
    use contract::{
        account::Role,
        ids::{ApiKeyId, RequestId, ServiceAccountId, TenantId},
        key::Scope,
    };
    use std::sync::Arc;
    use uuid::Uuid;

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
                "Chat: yes - - chat",
                "ManageOwnAccount: yes yes yes -",
                "SeeOwnUsage: yes yes yes usage",
                "UseModels: - - - inference",
                "AdministerServices: - yes - -",
                "AdministerSystem: - - yes -",
            ],
            "If you are here because this failed: a right was widened or narrowed. Columns: user, service admin, system admin, scope of a key."
        );
    }

    fn program(scopes: Vec<Scope>) -> Actor {
        let program = Program {
            account: ServiceAccountId(Uuid::nil()),
            key: ApiKeyId(Uuid::nil()),
            team: String::new(),
            cost_center: String::new(),
            scopes,
            user: None,
            models: None,
        };
        Actor::program(TenantId(Uuid::nil()), Arc::new(program), RequestId(Uuid::nil()))
    }

    #[test]
    fn a_key_opens_what_its_scopes_say_and_hears_what_it_lacks() {
        let every = program(Scope::ALL.to_vec());
        for action in Action::ALL {
            assert_eq!(every.may(action).is_ok(), action.scope().is_some(), "{action:?}");
        }
        let told = |actor: &Actor, action| actor.may(action).expect_err("refused").to_string();
        assert_eq!(told(&program(vec![Scope::Inference]), Action::Chat), "This needs a key with the scope `chat`.");
        assert!(told(&every, Action::ManageOwnAccount).contains("no key opens it"));
        assert!(every.user().is_err(), "an account without chats owns nothing");
    }
}
