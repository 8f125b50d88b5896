//! `idlegate completions` and `idlegate man`, made from the definition of the command line itself.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Arguments of `idlegate completions`.
#[derive(Debug, clap::Args)]
pub struct Completing {
    /// The shell.
    shell: Shell,
}

/// Arguments of `idlegate man`.
#[derive(Debug, clap::Args)]
pub struct Documenting {
    /// The folder to write the pages to, one for each command. It is made if it is missing. Without it, the main page is
    /// printed: `idlegate man | man -l -`.
    folder: Option<PathBuf>,
}

/// The completions of `command` for a shell.
#[must_use]
pub fn completions(completing: &Completing, mut command: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(completing.shell, &mut command, "idlegate", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the man pages of `command`, or returns the main one.
///
/// # Errors
/// A page cannot be written; the error names the folder.
pub fn man(documenting: &Documenting, command: Command) -> io::Result<String> {
    let mut page = Vec::new();
    match &documenting.folder {
        Some(folder) => write_pages(folder, command).map_err(|error| {
            io::Error::other(format!(
                "cannot write to {}: {error}; name a folder that can be written",
                folder.display()
            ))
        })?,
        None => Man::new(command).render(&mut page)?,
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write_pages(folder: &Path, command: Command) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
