//! The signed-in person: profile, preferences, sessions.

use crate::{
    Millis,
    ids::{SessionId, TenantId, UserId},
};
use serde::{Deserialize, Serialize};

/// Shortest password that a local account may have, in characters.
pub const PASSWORD_MIN_CHARS: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    ServiceAdmin,
    SystemAdmin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    #[default]
    En,
    De,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// Follow the device.
    #[default]
    System,
    Light,
    Dark,
    Contrast,
}

/// The signed-in person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Me {
    pub user: UserId,
    pub tenant: TenantId,
    pub tenant_name: String,
    pub email: String,
    pub roles: Vec<Role>,
    pub profile: Profile,
}

/// What a person may change about themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    /// `None`: follow the browser.
    pub language: Option<Language>,
    pub theme: Theme,
    pub default_model: Option<String>,
    /// Standing instructions, put before every chat's own system prompt.
    pub instructions: String,
}

/// A signed-in browser in the account page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub id: SessionId,
    /// The browser's `User-Agent`, as sent.
    pub user_agent: String,
    pub created_at: Millis,
    pub last_seen_at: Millis,
    pub expires_at: Millis,
    /// The session of this request.
    pub current: bool,
}
