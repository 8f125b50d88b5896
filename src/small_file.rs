//! Files beside the configuration: secrets and certificates.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// The largest such file, in bytes: more than all certificate authorities of a system.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the file at `path`, if it is a regular file: a pipe can be read only once, and reading it may never end.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is too large.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    // Checked before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(ErrorKind::InvalidData, "it is larger than 4 MiB"));
    }
    Ok(bytes)
}

/// As [`read`], but returns text.
///
/// # Errors
/// As [`read`]; also, the file is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_folders_devices_and_large_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        }
        let file = folder.path().join("large");
        File::create(&file).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::InvalidData);
        std::fs::write(&file, "a secret").unwrap();
        assert_eq!(read_text(&file).unwrap(), "a secret");
    }
}
