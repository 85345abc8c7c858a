//! The last good configuration, kept for the next start: a container that is restarted in its pod begins with it if the
//! current configuration cannot be used.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::files::{Disk, Files as _};

/// The folder (`--keep`) that the configuration is kept in.
#[derive(Debug, Clone)]
pub struct KeptConfiguration(PathBuf);

impl KeptConfiguration {
    /// Uses this folder, which must exist.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(folder.into())
    }

    /// Returns the text that was kept last; `None` if there is none. Fails if it cannot be read, is larger than 1 MiB,
    /// or is not UTF-8.
    pub fn read(&self) -> io::Result<Option<String>> {
        match Disk.read(&self.file()) {
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps this text in place of the last one. The replacement is atomic: a new file is renamed over the old one.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let new = self.0.join("config.yaml.new");
        fs::write(&new, text)?;
        fs::rename(new, self.file())
    }

    fn file(&self) -> PathBuf {
        self.0.join("config.yaml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_that_was_kept_last_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = KeptConfiguration::new(folder.path());
        assert_eq!(kept.read().expect("nothing is no error"), None);
        for text in ["first: 1\n", "second: 2\n"] {
            kept.write(text).expect("it is written");
            assert_eq!(kept.read().expect("it is read").as_deref(), Some(text));
        }
        assert_eq!(
            fs::read_dir(folder.path()).expect("the folder").count(),
            1,
            "nothing beside it"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_to_write_to_and_keeps_nothing() {
        let kept = KeptConfiguration::new(Path::new("/nowhere/at/all"));
        assert!(kept.write("text").is_err());
        assert_eq!(kept.read().expect("nothing is no error"), None);
    }
}
