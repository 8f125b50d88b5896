//! What this program is: its version, and the revision of the source that it was made from.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision, with `-dirty` where something was edited since; `unknown` where nobody said (`GIT_REVISION`, or a git
/// repository, when it was built).
pub const REVISION: &str = env!("REVISION");

/// Both, as `--version` says it.
pub const BOTH: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("REVISION"), ")");
