//! Memory that the kernel holds for the sockets of this process.
//!
//! `SO_MEMINFO` (socket(7), since Linux 4.12) gives it for one socket. All descriptors are visited, a bounded number of them with each
//! sample; the sum of the others is that of their last visit.

/// Descriptor numbers visited with one sample. A visit costs about 0.3 µs, and a sample must take less than 1 ms.
const BLOCK: usize = 2 << 10;
/// So few sockets hold little memory, so a process without clients need not visit them with each sample.
const FEW_SOCKETS: usize = 16;
/// Samples that are left out between two visits of few sockets, while the number of descriptors stays the same.
const LEFT_OUT: u32 = 9;

/// `asm-generic/socket.h`; the libc crate does not name it.
#[cfg(target_os = "linux")]
const SO_MEMINFO: libc::c_int = 55;

/// A descriptor number, as a visit finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// No open descriptor.
    Closed,
    /// A file, a pipe, an event queue.
    Other,
    /// A socket with so many bytes of buffers.
    Socket(u64),
}

/// The sum over all sockets, block by block.
#[derive(Debug, Default)]
pub(crate) struct SocketMemory {
    /// Bytes found in each block of descriptor numbers.
    blocks: Vec<u64>,
    next: usize,
    /// Open descriptors found since the first block.
    seen: u64,
    /// Sockets found since the first block.
    sockets: usize,
    /// The open descriptors at the last visit of all, if they had few sockets.
    few_of: Option<u64>,
    left_out: u32,
}

impl SocketMemory {
    /// Visits the next block and returns the sum of all blocks, in bytes. `open` is the number of open descriptors;
    /// all their numbers are below `slots`, so no number beyond is visited for a descriptor that is closed meanwhile.
    pub(crate) fn sample(&mut self, open: Option<u64>, slots: u64, visit: impl Fn(usize) -> Visit) -> u64 {
        if self.next == 0 && open.is_some() && open == self.few_of && self.left_out < LEFT_OUT {
            self.left_out += 1;
            return self.sum();
        }
        let (mut bytes, mut found) = (0_u64, 0_u64);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let first = self.next.saturating_mul(BLOCK);
        let end = first.saturating_add(BLOCK);
        let all_seen = |found: u64| open.is_some_and(|open| self.seen.saturating_add(found) >= open);
        for number in first..end.min(slots) {
            if all_seen(found) {
                break;
            }
            match visit(number) {
                Visit::Closed => {}
                Visit::Other => found += 1,
                Visit::Socket(own) => {
                    found += 1;
                    self.sockets += 1;
                    bytes = bytes.saturating_add(own);
                }
            }
        }
        let is_last = found == 0 || end >= slots || all_seen(found);
        match self.blocks.get_mut(self.next) {
            Some(block) => *block = bytes,
            None => self.blocks.push(bytes),
        }
        self.seen = self.seen.saturating_add(found);
        self.next += 1;
        if is_last {
            // The kernel assigns the lowest free number: behind a block without descriptors there are hardly any.
            self.blocks.truncate(self.next);
            self.few_of = open.filter(|_| self.sockets <= FEW_SOCKETS);
            (self.next, self.seen, self.sockets, self.left_out) = (0, 0, 0, 0);
        }
        self.sum()
    }

    fn sum(&self) -> u64 {
        self.blocks.iter().fold(0, |sum, block| sum.saturating_add(*block))
    }
}

/// Asks the kernel about a descriptor number of this process.
#[cfg(target_os = "linux")]
pub(crate) fn visit(number: usize) -> Visit {
    let Ok(number) = i32::try_from(number) else { return Visit::Closed };
    match memory_of(number) {
        Ok(info) => Visit::Socket(info.buffers_bytes()),
        Err(libc::EBADF) => Visit::Closed,
        Err(_) => Visit::Other,
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn visit(_: usize) -> Visit {
    Visit::Closed
}

/// The fields of `SO_MEMINFO` by the names of `linux/sock_diag.h`, in bytes. The kernel's own counters are signed, and it reads them
/// without a lock: what a socket has reserved ahead (`sk_forward_alloc`) may be negative for a moment.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
#[repr(C)]
struct MemoryInfo {
    rmem_alloc: i32,
    rcvbuf: i32,
    wmem_alloc: i32,
    sndbuf: i32,
    fwd_alloc: i32,
    wmem_queued: i32,
    optmem: i32,
    backlog: i32,
    drops: i32,
}

#[cfg(target_os = "linux")]
impl MemoryInfo {
    /// Received and unread, sent and not acknowledged, and reserved. Packets that are under way are clones of queued ones.
    fn buffers_bytes(&self) -> u64 {
        let sent = self.wmem_alloc.max(self.wmem_queued);
        let parts = [self.rmem_alloc, sent, self.fwd_alloc, self.optmem, self.backlog];
        parts.into_iter().map(|part| u64::try_from(part).unwrap_or(0)).sum()
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe interface takes a bare descriptor number")]
fn memory_of(number: i32) -> Result<MemoryInfo, i32> {
    let mut info = MemoryInfo::default();
    let mut length = libc::socklen_t::try_from(size_of::<MemoryInfo>()).unwrap_or(0);
    let buffer = (&raw mut info).cast::<libc::c_void>();
    // SAFETY: `buffer` and `length` describe `info`, of which any bit pattern is valid and to which the kernel writes at most `length`
    // bytes. The call changes nothing of the descriptor: a number that is closed or reused meanwhile is only counted wrong once.
    let result = unsafe { libc::getsockopt(number, libc::SOL_SOCKET, SO_MEMINFO, buffer, &raw mut length) };
    if result == 0 {
        return Ok(info);
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: u64 = 1 << 20;

    /// X1: every socket counts once, whatever lies between them
    #[test]
    fn the_sum_is_that_of_all_sockets() {
        let visit = |number: usize| match number {
            0..3 => Visit::Other,
            5 => Visit::Socket(100),
            9 => Visit::Socket(20),
            _ => Visit::Closed,
        };
        let mut memory = SocketMemory::default();
        assert_eq!(memory.sample(Some(5), SLOTS, visit), 120);
        assert_eq!(
            memory.sample(None, SLOTS, visit),
            120,
            "the number of open descriptors only ends the visits early"
        );
        assert_eq!(memory.sample(Some(5), SLOTS, |_| Visit::Closed), 120);
    }

    /// X1: no number beyond the table is visited for a descriptor that was closed after the count
    #[test]
    fn only_numbers_in_the_table_are_visited() {
        let visits = std::cell::Cell::new(0);
        let visit = |number: usize| {
            visits.set(visits.get() + 1);
            if number == 3 { Visit::Socket(7) } else { Visit::Closed }
        };
        let mut memory = SocketMemory::default();
        assert_eq!((memory.sample(Some(2), 64, visit), visits.get()), (7, 64));
        assert_eq!((memory.sample(Some(1), 64, visit), visits.get()), (7, 68));
    }

    /// X1: with many descriptors each sample visits one block and keeps the others
    #[test]
    fn many_descriptors_are_visited_in_turn() {
        let mut memory = SocketMemory::default();
        let open = 3 * BLOCK;
        let sockets = |bytes: u64| {
            move |number: usize| if number < open { Visit::Socket(bytes) } else { Visit::Closed }
        };
        let block = u64::try_from(BLOCK).unwrap();
        let count = Some(3 * block);
        let samples: Vec<u64> = (0..4).map(|_| memory.sample(count, SLOTS, sockets(1))).collect();
        assert_eq!(samples, [block, 2 * block, 3 * block, 3 * block]);
        let samples: Vec<u64> = (0..3).map(|_| memory.sample(count, SLOTS, sockets(2))).collect();
        assert_eq!(samples, [4 * block, 5 * block, 6 * block]);
    }

    /// X1: closed sockets are no longer counted
    #[test]
    fn closed_sockets_are_forgotten() {
        let mut memory = SocketMemory::default();
        let open = 2 * BLOCK;
        let all = |number: usize| if number < open { Visit::Socket(1) } else { Visit::Closed };
        for _ in 0..2 {
            memory.sample(Some(u64::try_from(open).unwrap()), SLOTS, all);
        }
        let one = |number: usize| if number == 7 { Visit::Socket(1) } else { Visit::Closed };
        assert_eq!(memory.sample(Some(1), SLOTS, one), 1);
    }

    /// X1: few sockets are visited with every tenth sample, and at once when a descriptor comes or goes
    #[test]
    fn few_sockets_are_visited_seldom() {
        let (visits, mut memory) = (std::cell::Cell::new(0), SocketMemory::default());
        let visit = |number: usize| {
            visits.set(visits.get() + 1);
            if number < FEW_SOCKETS { Visit::Socket(visits.get()) } else { Visit::Closed }
        };
        let mut sample = |open: u64| {
            let before = visits.get();
            memory.sample(Some(open), SLOTS, visit);
            visits.get() > before
        };
        let few = u64::try_from(FEW_SOCKETS).unwrap();
        let visited: Vec<bool> = (0..12).map(|_| sample(few)).collect();
        assert_eq!(visited.iter().filter(|visited| **visited).count(), 2, "{visited:?}");
        assert!(sample(few - 1), "a descriptor has gone");
        let mut many = SocketMemory::default();
        let all = |_: usize| Visit::Socket(1);
        let block = u64::try_from(BLOCK).unwrap();
        assert_eq!(many.sample(Some(block), SLOTS, all), block);
        assert_eq!(
            many.sample(Some(block), SLOTS, |_| Visit::Socket(2)),
            2 * block,
            "many sockets are visited always"
        );
    }

    /// X1, X4: a counter that is negative for a moment counts as 0, not as 4 GiB
    #[cfg(target_os = "linux")]
    #[test]
    fn a_negative_counter_is_zero() {
        let info = MemoryInfo {
            rmem_alloc: 100,
            fwd_alloc: -4096,
            wmem_queued: -1,
            wmem_alloc: 7,
            ..MemoryInfo::default()
        };
        assert_eq!(info.buffers_bytes(), 107);
    }

    /// X1: unread bytes of a real socket are counted
    #[cfg(target_os = "linux")]
    #[test]
    fn unread_bytes_of_a_connection_are_counted() {
        use std::io::Write;
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::AsRawFd;

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        sender.write_all(&[7; 100_000]).unwrap();
        let numbers = [sender.as_raw_fd(), receiver.as_raw_fd()].map(|fd| usize::try_from(fd).unwrap());
        let total: u64 = numbers
            .into_iter()
            .map(|number| match visit(number) {
                Visit::Socket(bytes) => bytes,
                other => panic!("{other:?}"),
            })
            .sum();
        assert!(total >= 100_000, "{total}");
        assert_eq!(visit(usize::MAX), Visit::Closed);
    }
}
