//! A folder like kubelet's mount of a `ConfigMap` or a Secret: the files are links through `..data`, which is swapped
//! as a whole.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A mounted folder and the number of its versions so far.
pub struct Mount {
    folder: PathBuf,
    versions: usize,
}

impl Mount {
    /// Makes the folder with links to these files; they dangle until the first [`Mount::swap`].
    pub fn new(folder: PathBuf, files: &[&str]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        for name in files {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
        Self { folder, versions: 0 }
    }

    /// Has `write` put the next version's files into a folder of their own, swaps the link, and removes the old
    /// version.
    pub fn swap(&mut self, write: impl FnOnce(&Path)) {
        let version = |number: usize| self.folder.join(format!("..version-{number}"));
        let (old, new) = (version(self.versions), version(self.versions + 1));
        fs::create_dir(&new).unwrap();
        write(&new);
        symlink(&new, self.folder.join("..data_new")).unwrap();
        fs::rename(self.folder.join("..data_new"), self.folder.join("..data")).unwrap();
        if self.versions > 0 {
            fs::remove_dir_all(old).unwrap();
        }
        self.versions += 1;
    }

    /// Returns the path of one of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
