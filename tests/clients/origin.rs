//! The embedded origin as a program: `origin DIRECTORY BUCKET` prints one JSON line with its address and keys, and
//! serves until standard input ends. The client suites run against it to show that they pass without the gateway.

use std::io::{Read, stdin};
use std::path::Path;

use tidegate::origin;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(bucket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: origin DIRECTORY BUCKET".into());
    };
    let origin = origin::start(Path::new(&directory), &bucket)?;
    println!(
        r#"{{"address":"{}","access_key_id":"{}","secret_access_key":"{}"}}"#,
        origin.address, origin.access_key_id, origin.secret_access_key
    );
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
