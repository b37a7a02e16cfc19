//! Opens regular files only.
//!
//! Opening or reading a FIFO would wait for its writer without a limit. A file is therefore opened without blocking, and its type
//! is checked before the first read. `O_NONBLOCK` has no effect on a regular file (open(2)).

use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens a regular file for reading.
///
/// # Errors
/// It cannot be opened, or it is not a regular file.
pub fn open_regular(path: impl AsRef<Path>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path.as_ref(), flags, Mode::empty()) {
        // open(2): a socket, or a device without a driver
        Err(Errno::NXIO | Errno::NODEV) => return Err(not_regular("a socket or a device")),
        result => File::from(result?),
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(not_regular(name_of(kind))) }
}

/// Reads the text of a regular file.
///
/// # Errors
/// It cannot be opened or read, it is not a regular file, or it is not UTF-8.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn not_regular(name: &str) -> io::Error {
    io::Error::other(format!("it is not a regular file but {name}"))
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else {
        "a device"
    }
}
