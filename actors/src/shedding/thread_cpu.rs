//! The CPU time of a thread, from the scheduler's statistics (`/proc/thread-self/schedstat`).

use std::path::PathBuf;
use std::time::Duration;

use crate::persistent_file::PersistentFile;

/// CPU time of a thread since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCpuTime {
    /// Time on a CPU.
    pub used: Duration,
    /// Time in which it was ready to run and had no CPU.
    pub delayed: Duration,
}

/// The statistics of the thread that reads them first. Their file stays open.
#[derive(Debug)]
pub struct ThreadCpuFile {
    /// None if the system has no such file.
    file: Option<PersistentFile>,
}

impl Default for ThreadCpuFile {
    fn default() -> Self {
        Self::at("/proc/thread-self/schedstat")
    }
}

impl ThreadCpuFile {
    fn at(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(PersistentFile::new(path)) }
    }

    /// The present CPU time. None if the system has no such file, which is not searched again, and while it cannot be
    /// opened or read.
    pub fn read(&mut self) -> Option<ThreadCpuTime> {
        let content = self.file.as_mut()?.read_if_present();
        if let Ok(None) = content {
            self.file = None;
        }
        parse(&content.ok()??)
    }
}

/// Nanoseconds on a CPU, and nanoseconds in which the thread waited for one.
fn parse(text: &str) -> Option<ThreadCpuTime> {
    let mut nanos = text.split_ascii_whitespace().map(str::parse);
    let (used, delayed) = (nanos.next()?.ok()?, nanos.next()?.ok()?);
    Some(ThreadCpuTime { used: Duration::from_nanos(used), delayed: Duration::from_nanos(delayed) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// X1, X11: the statistics are read, and unknown text gives none
    #[test]
    fn the_statistics_are_read() {
        let time = parse("1500 70 4\n").unwrap();
        assert_eq!((time.used, time.delayed), (Duration::from_nanos(1500), Duration::from_nanos(70)));
        for text in ["", "5", "x 1 1", "1 -1 1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// X1: one open file has the present statistics, and a file that does not exist is not searched again
    #[test]
    fn the_file_stays_open() {
        let directory = std::env::temp_dir().join(format!("tidegate-schedstat-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("schedstat");
        let mut absent = ThreadCpuFile::at(&path);
        assert_eq!(absent.read(), None);
        fs::write(&path, "1 2 3\n").unwrap();
        assert_eq!(absent.read(), None);
        let mut file = ThreadCpuFile::at(&path);
        assert_eq!(file.read().unwrap().used, Duration::from_nanos(1));
        fs::write(&path, "5 2 3\n").unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(file.read().unwrap().used, Duration::from_nanos(5));
    }
}
