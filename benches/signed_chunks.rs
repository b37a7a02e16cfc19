//! Cost of signed chunks (verification and new signatures), relative to one SHA-256 pass and an unsigned upload of the same bytes.
//!
//! `cargo bench --features bench --bench signed_chunks` prints the ratio for several chunk sizes. The target is at most 1.15.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_actors::clock;
use tidegate_s3::upload::bench::{Upload, framed, pass};

const BYTES: usize = 64 << 20;
/// Bytes of one read from a connection.
const READ_BYTES: usize = 32 << 10;
const ROUNDS: usize = 9;

/// The shortest of several rounds, in seconds, which is least affected by other processes.
fn seconds(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let began = clock::now();
        work();
        clock::now().duration_since(began).as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// The body in pieces as reads from a connection return it, independent of its framing.
fn reads(pieces: &[Bytes]) -> Vec<Bytes> {
    let whole = Bytes::from(pieces.concat());
    (0..whole.len()).step_by(READ_BYTES).map(|at| whole.slice(at..whole.len().min(at + READ_BYTES))).collect()
}

fn main() {
    let data: Bytes =
        (0..BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u8).collect::<Vec<_>>().into();
    let plain = reads(std::slice::from_ref(&data));
    let length = BYTES as u64;
    let hash = seconds(|| {
        let mut hash = Sha256::new();
        plain.iter().for_each(|piece| hash.update(piece));
        std::hint::black_box(hash.finalize());
    });
    let unsigned = seconds(|| assert_eq!(pass(Upload::Unsigned, &plain, length, 1), Some(length)));
    println!("one SHA-256 pass {:.0} MB/s", BYTES as f64 / hash / 1e6);
    for chunk_bytes in [64 << 10, 128 << 10, 1 << 20] {
        let body = reads(&framed(&data, chunk_bytes));
        let signed = seconds(|| {
            let out = pass(Upload::SignedChunks, &body, length, chunk_bytes as u64);
            assert!(out.is_some_and(|bytes| bytes > length));
        });
        let ratio = signed / (hash + unsigned);
        println!(
            "chunks of {:>4} KiB: {ratio:.3} of a SHA-256 pass and an unsigned upload",
            chunk_bytes >> 10
        );
    }
}
