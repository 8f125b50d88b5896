//! The name of a replica: one for each process, in its marks, its log, its records and its answers.

/// How much of the host's name is in it.
const MAX_HOST_LENGTH: usize = 40;

/// A new name: the host's, or the Pod's, for people; then what no other replica has, since one host may run several, and
/// many are called `localhost`.
pub(crate) fn new_name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-._".contains(*letter);
    let host: String = host.chars().filter(is_plain).take(MAX_HOST_LENGTH).collect();
    format!("{host}-{:08x}", rand::random::<u32>())
}
