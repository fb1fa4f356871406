//! What programs may keep.

use serde::Deserialize;
use services::FileLimits;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Of one file, in MiB.
    pub file_mib: u32,
    /// Of all files of a tenant together, in MiB.
    pub tenant_mib: u32,
}

impl Files {
    /// The same in bytes.
    #[must_use]
    pub fn limits(&self) -> FileLimits {
        FileLimits { file: u64::from(self.file_mib) << 20, tenant: u64::from(self.tenant_mib) << 20 }
    }

    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.file_mib == 0 {
            wrong.push("`files.file_mib`: must be at least 1".into());
        }
        if self.tenant_mib < self.file_mib {
            wrong.push("`files.tenant_mib`: must be at least `files.file_mib`".into());
        }
    }
}
