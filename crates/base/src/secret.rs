//! Values that must never be printed.

/// A secret: it has no `Display`, its `Debug` is a fixed word and it cannot be serialised.
///
/// ```compile_fail
/// let key = alluvium_base::Secret::new("wJalr".to_string());
/// println!("{key}");
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself. Name the reason where you call this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
