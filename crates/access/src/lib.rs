//! Who may do what. For now: the root credentials, the account, and the one check of policies
//! that keeps a promise: a policy that denies something is refused until policies are evaluated (I7).
//!
//! Left to others: signatures (the wire's), and where calls are answered.

pub mod account;
mod durable_file;
pub mod policy;
pub mod root_credentials;

pub use account::fixed_account;
pub use policy::{PolicyProblem, check_policy};
pub use root_credentials::{CredentialsError, RootCredentials};
