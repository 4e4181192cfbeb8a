//! The root credentials: given by the environment, or generated once into the data directory.
//!
//! The file has the form of the AWS SDKs' shared credentials file and mode 0600.

use crate::durable_file;
use alluvium_base::{Random, Secret};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The file in the data directory.
pub const FILE: &str = "credentials";

/// The root user's access key.
#[derive(Debug, Clone)]
pub struct RootCredentials {
    /// The access key id; no secret.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
}

/// Why there are no root credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's content is not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Others can read the file.
    #[error("{path} can be read by others (mode {mode:o}): chmod 600 it")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A key given from outside has a form that no SDK can use.
    #[error("{name} is not usable: {reason}")]
    Unusable {
        /// Which of the two.
        name: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// There is no file yet.
    #[error("{path} does not exist: start `alluvium serve` on this data directory first")]
    Absent {
        /// The file.
        path: String,
    },
}

impl CredentialsError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Io { .. } => alluvium_base::ErrorKind::Unavailable,
            Self::Damaged { .. } => alluvium_base::ErrorKind::Corrupt,
            Self::Exposed { .. } => alluvium_base::ErrorKind::Denied,
            Self::Unusable { .. } => alluvium_base::ErrorKind::Invalid,
            Self::Absent { .. } => alluvium_base::ErrorKind::NotFound,
        }
    }
}

/// Base32 of RFC 4648: what AWS's key ids are made of.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 64 letters, so that six random bits choose one evenly; no character that a shell treats.
const SECRET_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl RootCredentials {
    /// Credentials given from outside.
    pub fn given(access_key_id: &str, secret: &str) -> Result<Self, CredentialsError> {
        let id_name = "the root access key id";
        let unusable = |name, reason| CredentialsError::Unusable { name, reason };
        let plain = access_key_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !(3..=128).contains(&access_key_id.len()) || !plain {
            return Err(unusable(id_name, "it takes 3 to 128 letters, digits and underscores"));
        }
        if !(8..=128).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(unusable(
                "the root secret access key",
                "it takes 8 to 128 printable ASCII characters without spaces",
            ));
        }
        Ok(Self {
            access_key_id: access_key_id.to_string(),
            secret_access_key: Secret::new(secret.to_string()),
        })
    }

    /// The credentials of this data directory, generated when there are none.
    pub fn load_or_create(dir: &Path, random: &dyn Random) -> Result<Self, CredentialsError> {
        match Self::load(dir) {
            Err(CredentialsError::Absent { .. }) => {}
            other => return other,
        }
        let mut bytes = [0u8; 56];
        random.fill(&mut bytes);
        let pick = |alphabet: &[u8], byte: u8| {
            char::from(alphabet[usize::from(byte) & (alphabet.len() - 1)])
        };
        let id: String = bytes[..16].iter().map(|&byte| pick(ID_ALPHABET, byte)).collect();
        let secret: String = bytes[16..].iter().map(|&byte| pick(SECRET_ALPHABET, byte)).collect();
        let id = format!("AKIA{id}");
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        durable_file::write_private(dir, FILE, &text).map_err(|source| CredentialsError::Io {
            path: dir.join(FILE).display().to_string(),
            source,
        })?;
        Ok(Self { access_key_id: id, secret_access_key: Secret::new(secret) })
    }

    /// The credentials that are in this data directory.
    pub fn load(dir: &Path) -> Result<Self, CredentialsError> {
        let path = dir.join(FILE).display().to_string();
        let io = |source| CredentialsError::Io { path: path.clone(), source };
        let Some(text) = durable_file::read(dir, FILE).map_err(io)? else {
            return Err(CredentialsError::Absent { path });
        };
        let mode = std::fs::metadata(dir.join(FILE)).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Exposed { path, mode });
        }
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim())
        };
        let damaged = |reason| CredentialsError::Damaged { path: path.clone(), reason };
        let id = value("aws_access_key_id").ok_or_else(|| damaged("no aws_access_key_id"))?;
        let secret =
            value("aws_secret_access_key").ok_or_else(|| damaged("no aws_secret_access_key"))?;
        Self::given(id, secret).map_err(|_| damaged("a key has the wrong form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::OsRandom;

    #[test]
    fn generated_once_private_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = RootCredentials::load_or_create(dir.path(), &OsRandom).unwrap();
        assert_eq!(made.access_key_id.len(), 20);
        assert_eq!(made.secret_access_key.expose().len(), 40);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = RootCredentials::load_or_create(dir.path(), &OsRandom).unwrap();
        assert_eq!(again.access_key_id, made.access_key_id);
        assert_eq!(again.secret_access_key.expose(), made.secret_access_key.expose());
        assert!(!format!("{made:?}").contains(made.secret_access_key.expose()));
    }

    #[test]
    fn exposed_damaged_and_absent_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let kind = || RootCredentials::load(dir.path()).unwrap_err().kind();
        assert_eq!(kind(), alluvium_base::ErrorKind::NotFound);
        let path = dir.path().join(FILE);
        std::fs::write(&path, "[default]\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(kind(), alluvium_base::ErrorKind::Denied);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(kind(), alluvium_base::ErrorKind::Corrupt);
    }

    #[test]
    fn given_keys_must_be_usable() {
        assert!(RootCredentials::given("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG").is_ok());
        for (id, secret) in
            [("A", "12345678"), ("A/B/C", "12345678"), ("AKID", "short"), ("AKID", "with a space")]
        {
            assert!(RootCredentials::given(id, secret).is_err(), "{id} {secret}");
        }
    }
}
