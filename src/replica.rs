//! The name of a replica: one for each process, used in marks, logs, audit events and responses.

/// The maximum length of the host name in it.
const MAX_HOST_LENGTH: usize = 40;

/// A new name: the name of the host or Pod, and a random suffix. The suffix keeps names unique: one host may run
/// several replicas, and many hosts are called `localhost`.
pub(crate) fn new_name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-._".contains(*letter);
    let host: String = host.chars().filter(is_plain).take(MAX_HOST_LENGTH).collect();
    format!("{host}-{:08x}", rand::random::<u32>())
}
