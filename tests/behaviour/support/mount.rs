//! A folder as kubelet mounts a `ConfigMap` or a Secret: its files are links through `..data`, which is swapped as a whole.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// See the module.
pub struct Mount {
    folder: PathBuf,
    versions: usize,
}

impl Mount {
    /// With these files, once there is a version.
    pub fn new(folder: PathBuf, files: &[&str]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        for name in files {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
        Self { folder, versions: 0 }
    }

    /// Has the files of the next version written into a folder of their own, swaps the link, and removes the old ones.
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

    /// One of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
