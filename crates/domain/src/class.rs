//! How closely data is kept.

use serde::{Deserialize, Serialize};

/// A class of data, the least guarded first. A request is of one, and goes only to those who may see data of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    /// Anybody may know it.
    Public,
    /// For the organisation; what a tenant has unless somebody says otherwise.
    Internal,
    /// For some of the organisation.
    Confidential,
    /// For whoever needs it, and nobody else.
    Restricted,
}

impl DataClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Public, Self::Internal, Self::Confidential, Self::Restricted];

    /// Its name in the database, in headers, in commands and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        }
    }

    /// The class of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::DataClass;

    #[test]
    fn classes_are_ordered_and_known_by_their_names() {
        assert!(DataClass::ALL.is_sorted(), "If you are here because this failed: more guarded data would pass for less guarded.");
        for class in DataClass::ALL {
            assert_eq!(DataClass::named(class.name()), Some(class));
        }
        assert_eq!((DataClass::named("Public"), DataClass::named("")), (None, None));
    }
}
