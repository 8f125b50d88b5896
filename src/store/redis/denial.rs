//! Refusals by the server: what each means, and which configuration key fixes it.

use redis::RedisError;

/// Why a server refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Denial {
    /// What is wrong.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) fix: &'static str,
}

/// Why the server refuses, if `error` is a refusal. A server that cannot be reached refuses nothing.
pub(super) fn denial(error: &RedisError) -> Option<Denial> {
    let text = error.to_string();
    let says = |word: &str| error.code() == Some(word) || text.contains(word);
    let denial = |what, fix| Some(Denial { what, fix });
    if says("NOAUTH") || says("unauthenticated multibulk length") || says("unauthenticated bulk length") {
        denial("it wants a password", "write user and password into store.url, or name store.password_file")
    } else if says("WRONGPASS") || says("invalid password") || says("AuthenticationFailed") {
        denial("user or password is wrong", "correct them in store.url, or in the file that store.password_file names")
    } else if says("NOPERM") {
        denial(
            "its ACL does not let this user do that",
            "allow the user of store.url the keys and channels that begin with store.prefix (ACL SETUSER)",
        )
    } else if says("DENIED") {
        denial(
            "it is in protected mode, and takes only clients on its own host",
            "set a password there (requirepass) and in store.url, or bind it to loopback",
        )
    } else if says("MISCONF") {
        denial("it cannot write to its disk, and takes no writes", "free space there, and see the server's log")
    } else if says("READONLY") {
        denial("it is a replica, which takes no writes", "name the master in store.url, or its Sentinels")
    } else if says("LOADING") || says("BusyLoading") {
        denial("it is still loading its data", "wait: idlegate continues when the server is ready")
    } else {
        None
    }
}
