//! New files next to a file that the user named. Errors do not show their temporary names.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::base::temporary::without_temporary_name;

/// A file in the directory of `path`, which is removed on drop.
/// Fails if the directory does not exist or cannot be written.
pub(crate) fn new_file_next_to(path: &Path) -> io::Result<NamedTempFile> {
    NamedTempFile::new_in(directory_of(path)).map_err(without_temporary_name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
