//! The account id: chosen at the first start, then fixed, because ARNs that hold it are stored.

use crate::durable_file;
use alluvium_base::AccountId;
use std::path::Path;

/// The file in the data directory.
const FILE: &str = "account-id";
/// The account of a data directory whose first start named none.
pub const DEFAULT_ACCOUNT: &str = "000000000000";

/// Why the account is not clear.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file cannot be read or written.
    #[error("the account id in {dir} cannot be read or written: {source}")]
    Io {
        /// The data directory.
        dir: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{dir}/account-id is damaged: {reason}")]
    Damaged {
        /// The data directory.
        dir: String,
        /// What is wrong.
        reason: String,
    },
    /// Another account was asked for.
    #[error(
        "this data directory belongs to account {fixed}; --account-id {asked} cannot change it: \
         use another --data-dir"
    )]
    Fixed {
        /// The account since the first start.
        fixed: AccountId,
        /// The account now asked for.
        asked: AccountId,
    },
}

impl AccountError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Io { .. } => alluvium_base::ErrorKind::Unavailable,
            Self::Damaged { .. } => alluvium_base::ErrorKind::Corrupt,
            Self::Fixed { .. } => alluvium_base::ErrorKind::Conflict,
        }
    }
}

/// The account of this data directory: as at its first start, when `asked` (or the default) is
/// written down.
pub fn fixed_account(dir: &Path, asked: Option<&AccountId>) -> Result<AccountId, AccountError> {
    let shown = || dir.display().to_string();
    let io = |source| AccountError::Io { dir: shown(), source };
    if let Some(text) = durable_file::read(dir, FILE).map_err(io)? {
        let fixed: AccountId = text.trim().parse().map_err(|bad: alluvium_base::arn::BadArn| {
            AccountError::Damaged { dir: shown(), reason: bad.to_string() }
        })?;
        return match asked {
            Some(asked) if *asked != fixed => {
                Err(AccountError::Fixed { fixed, asked: asked.clone() })
            }
            Some(_) | None => Ok(fixed),
        };
    }
    let account = asked
        .cloned()
        .unwrap_or_else(|| DEFAULT_ACCOUNT.parse().expect("the default account has twelve digits"));
    durable_file::write_private(dir, FILE, &format!("{account}\n")).map_err(io)?;
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_fixed_by_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let first: AccountId = "123456789012".parse().unwrap();
        let other: AccountId = "210987654321".parse().unwrap();
        assert_eq!(fixed_account(dir.path(), Some(&first)).unwrap(), first);
        assert_eq!(fixed_account(dir.path(), None).unwrap(), first);
        assert_eq!(fixed_account(dir.path(), Some(&first)).unwrap(), first);
        let refused = fixed_account(dir.path(), Some(&other)).unwrap_err();
        assert_eq!(refused.kind(), alluvium_base::ErrorKind::Conflict);
    }

    #[test]
    fn account_is_zeroes_unless_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fixed_account(dir.path(), None).unwrap().as_str(), DEFAULT_ACCOUNT);
        std::fs::write(dir.path().join(FILE), "12").unwrap();
        let damaged = fixed_account(dir.path(), None).unwrap_err();
        assert_eq!(damaged.kind(), alluvium_base::ErrorKind::Corrupt);
    }
}
