//! Watches the folders of the configuration and its files, and gives a sign whenever something in them changes.
//!
//! Folders are watched, not files: a watch on a file ends with the file's replacement, and a mounted `ConfigMap`
//! changes by a swap of a link in its folder.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use notify::{
    Error, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc::Sender;

use crate::descriptors;

/// The watched folders, and the sender of the signs.
pub(super) struct Folders {
    /// The sender of the signs.
    sign: Sender<()>,
    /// The kernel's watch; `None` until the kernel has granted one.
    watcher: Option<RecommendedWatcher>,
    /// The watched folders, each with its inode, by which a folder that was made anew differs from the old one.
    watched: BTreeMap<PathBuf, u64>,
    /// The reason why some folder gives no sign, as it was logged; `None` if all give signs.
    unwatched: Option<String>,
}

impl Folders {
    pub(super) const fn new(sign: Sender<()>) -> Self {
        Self { sign, watcher: None, watched: BTreeMap::new(), unwatched: None }
    }

    /// Makes the watched folders those of these files and those that their links lead to. A refusal of the kernel is
    /// logged once, and tried again at the next call; the end of refusals is logged too.
    pub(super) fn watch(&mut self, files: &[PathBuf]) {
        let refused = self.update_watches(files).err().map(|error| reason(&error));
        match (&refused, &self.unwatched) {
            (Some(reason), told) if told.as_ref() != Some(reason) => {
                tracing::warn!(reason, "files cannot be watched, and are looked at every second");
            }
            (None, Some(_)) => tracing::info!("files are watched again"),
            _ => {}
        }
        self.unwatched = refused;
    }

    /// True if a change may come without a sign.
    pub(super) const fn are_incomplete(&self) -> bool {
        self.unwatched.is_some()
    }

    /// Makes the watched folders those of these files: ends the watches of folders that are no longer among them, are
    /// gone or were made anew, and begins the missing ones. A folder that does not exist is left for the next call.
    /// Tries all, and returns the first refusal; if the kernel grants no watcher at all, returns that error at once.
    fn update_watches(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        let mut watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => watcher(&self.sign)?,
        };
        let wanted = folders_of(files);
        let found: BTreeMap<_, _> = wanted
            .into_iter()
            .filter_map(|folder| Some((folder.clone(), folder.metadata().ok()?.ino())))
            .collect();
        let known = std::mem::take(&mut self.watched);
        for (folder, _) in known.iter().filter(|(folder, inode)| found.get(*folder) != Some(inode))
        {
            // This fails if the folder is gone, and then the watch is gone too.
            let _ = watcher.unwatch(folder);
        }
        let mut outcome = Ok(());
        for (folder, inode) in found {
            if known.get(&folder) == Some(&inode) {
                self.watched.insert(folder, inode);
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder, inode)),
                // The folder went a moment ago, and may be back at the next call.
                Err(Error { kind: ErrorKind::PathNotFound, .. }) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.watcher = Some(watcher);
        outcome
    }
}

/// Makes a watcher that sends a sign for each change in its folders, and for each error in watching them. Fails if the
/// kernel grants none.
fn watcher(sign: &Sender<()>) -> Result<RecommendedWatcher, Error> {
    let sign = sign.clone();
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // If a sign already waits, one more would tell nothing new.
            let _ = sign.try_send(());
        }
    })
}

/// Returns the folders in which these files lie, and the folders to which links lead: that of each file that is a link,
/// and that of each folder.
fn folders_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let (mut seen, mut known) = (HashSet::new(), HashMap::new());
    let mut folders = BTreeSet::new();
    for file in files {
        if file.is_symlink() {
            let real = file.canonicalize().ok();
            folders.extend(real.as_deref().and_then(folder_of).map(Path::to_owned));
        }
        if let Some(folder) = folder_of(file).filter(|folder| seen.insert(*folder)) {
            folders.extend(real_folder(folder, &mut known));
            folders.insert(folder.to_owned());
        }
    }
    folders
}

/// Returns the folder that a path leads to through links; `None` if there is none. `known` remembers results, because
/// many files share few folders.
fn real_folder<'p>(
    folder: &'p Path,
    known: &mut HashMap<&'p Path, Option<PathBuf>>,
) -> Option<PathBuf> {
    if let Some(real) = known.get(folder) {
        return real.clone();
    }
    let real = match (folder.file_name(), folder_of(folder)) {
        (Some(name), Some(around)) if !folder.is_symlink() => {
            real_folder(around, known).map(|real| real.join(name))
        }
        _ => folder.canonicalize().ok(),
    };
    known.insert(folder, real.clone());
    real
}

fn folder_of(file: &Path) -> Option<&Path> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// True if the event is more than a read. Reads must be ignored: Warmline's own would otherwise cause the next look,
/// for ever.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Returns the reason in words. For a limit that was reached the limit is named, because the kernel's own words are
/// those of a full disk or of too many open files.
fn reason(error: &Error) -> String {
    let reached = |limit: &str| {
        format!(
            "the limit {limit} of this user is reached; raise it (sysctl, on the node) or end what uses it up"
        )
    };
    match &error.kind {
        ErrorKind::MaxFilesWatch => reached("fs.inotify.max_user_watches"),
        ErrorKind::Io(error) if descriptors::is_shortage(error) => {
            reached("fs.inotify.max_user_instances, or that of open files,")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_folders_of_files_are_those_as_written_and_those_where_links_of_folders_and_files_lead() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("the folder");
        let at = |name: &str| root.join(name);
        std::fs::create_dir_all(at("real/deep")).expect("a folder");
        std::fs::create_dir_all(at("other")).expect("a folder");
        symlink("real", at("link")).expect("a link to a folder");
        symlink("../other/key", at("real/deep/key")).expect("a link to nothing");
        std::fs::write(at("other/trust"), "").expect("a file");
        symlink("../../other/trust", at("real/deep/trust")).expect("a link to a file");
        let files = ["link/deep/trust", "link/deep/key", "link/deep/none", "other/trust"].map(at);
        let folders: Vec<_> = folders_of(&files).into_iter().collect();
        assert_eq!(folders, ["link/deep", "other", "real/deep"].map(at));
    }
}
