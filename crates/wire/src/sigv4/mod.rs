//! Signature version 4: what is presented, what it must cover, whether it is right.
//!
//! Owns parsing of the `Authorization` header and of presigned queries ([`present`]), the checks
//! that need no body ([`Verifier::admit`]), the check of the signature itself
//! ([`Verifier::verify`]) and signing for our own client ([`sign`]). Nothing here can be switched
//! off, and a signature's comparison takes the same time whatever it compares. Temporary
//! credentials (session tokens) are refused by name until something issues them (I7).
//!
//! S3's bodies are streams: their signature is checked over the head first
//! ([`Verifier::verify_payload`]), their chunks by [`crate::aws_chunked`]. Its old presigned URLs
//! are `crate::sigv2`.
//!
//! Left to others: where secrets are kept ([`crate::credentials`]).
//!
//! Sources: AWS IAM user guide, "Create a signed AWS API request" and "Authenticating requests:
//! using query parameters".

mod authorization;
mod canonical_request;
mod chunk_signer;
mod credential_scope;
mod problem;
pub mod sign;
mod signing_key;
mod verifier;

pub use authorization::{Authorization, Place, Presented, present};
pub use canonical_request::{PathForm, canonical_request, string_to_sign};
pub use chunk_signer::ChunkSigner;
pub use credential_scope::CredentialScope;
pub use problem::SignatureProblem;
pub use signing_key::{SigningKey, SigningKeyCache};
pub use verifier::{Admitted, Verified, Verifier};

/// The only algorithm that is accepted.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Stands for the body's hash where the body is not signed; only S3 allows it.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
