//! Lowers the limit of descriptors of the running gateway to those that it has open, and restores it (prlimit(2)).

use std::cell::Cell;
use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::usage;

/// The limit that an event has replaced.
#[derive(Debug, Default)]
pub(crate) struct DescriptorLimit(Cell<Option<Rlimit>>);

impl DescriptorLimit {
    /// Leaves no free descriptor.
    pub(crate) fn exhaust(&self, process: u32) -> io::Result<()> {
        let open = usage::descriptors(&[process]) as u64;
        let hard = getrlimit(Resource::Nofile).maximum;
        let before = set(process, Rlimit { current: Some(open), maximum: hard })?;
        if self.0.get().is_none() {
            self.0.set(Some(before));
        }
        Ok(())
    }

    /// Sets the limit from before.
    pub(crate) fn restore(&self, process: u32) -> io::Result<()> {
        match self.0.take() {
            Some(before) => set(process, before).map(|_| ()),
            None => Ok(()),
        }
    }
}

fn set(process: u32, limit: Rlimit) -> io::Result<Rlimit> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the gateway has no process ID"))?;
    prlimit(Some(pid), Resource::Nofile, limit).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn soft_limit(process: u32) -> String {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    }

    #[test]
    fn the_limit_is_lowered_and_restored() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let (limit, before) = (DescriptorLimit::default(), soft_limit(child.id()));
        limit.exhaust(child.id()).unwrap();
        limit.exhaust(child.id()).unwrap();
        let lowered: f64 = soft_limit(child.id()).parse().unwrap();
        let open = usage::descriptors(&[child.id()]);
        limit.restore(child.id()).unwrap();
        let restored = soft_limit(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((lowered, restored), (open, before));
    }
}
