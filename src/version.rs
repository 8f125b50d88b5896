//! The version of this program, and the source revision that it was built from.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The git revision, with `-dirty` if the source had uncommitted changes. `unknown` if the build had neither
/// `GIT_REVISION` nor a git repository.
pub const REVISION: &str = env!("REVISION");

/// Version and revision, as `--version` prints them.
pub const BOTH: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("REVISION"), ")");
