//! What this program is: its version, and the revision of the source that it was made from.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision, with `-dirty` for uncommitted edits; `unknown` if the build had neither `GIT_REVISION` nor a git
/// repository.
pub const REVISION: &str = env!("REVISION");

/// Both, as `--version` prints them.
pub const BOTH: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("REVISION"), ")");
