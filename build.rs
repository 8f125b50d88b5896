//! Tells the program which revision of the source it is made from.

use std::path::Path;
use std::process::Command;

/// What the program is made from. An edit of anything else makes it no other program.
const MADE_FROM: [&str; 6] = ["src", "examples", "proxy.toml", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    println!("cargo::rerun-if-env-changed=GIT_REVISION");
    println!("cargo::rustc-env=REVISION={}", named().or_else(asked).unwrap_or_else(|| "unknown".to_owned()));
}

/// Where there is no repository, as in the build of an image, whoever builds has to say it.
fn named() -> Option<String> {
    let name = std::env::var("GIT_REVISION").ok()?.trim().to_owned();
    let is_full_hash = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = if is_full_hash { name[..7].to_owned() } else { name };
    (!name.is_empty()).then_some(name)
}

/// What git says of this folder. Not of one around it: the source may have been unpacked within another repository.
fn asked() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // Another commit, or another branch; and the files themselves, for `-dirty`.
    for name in ["HEAD", "packed-refs", "refs/heads"] {
        rerun_if_changed(&git(&["rev-parse", "--git-path", name])?);
    }
    MADE_FROM.into_iter().for_each(rerun_if_changed);
    let revision = git(&["rev-parse", "--short=7", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"][..], &MADE_FROM].concat())?;
    Some(if changed.is_empty() { revision } else { format!("{revision}-dirty") })
}

fn rerun_if_changed(path: &str) {
    // What is not there would count as changed every time.
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
