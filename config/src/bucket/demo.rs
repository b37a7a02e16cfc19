//! The bucket of the embedded origin, which is served if no bucket is configured.

use super::{AuthMethod, BucketConfig, Credentials, Endpoint, Inherited, Pattern, resolve};
use crate::cost::Costs;
use crate::policy::Access;
use crate::schema::defaults;
use crate::server::ServerConfig;

/// The name of the section of the embedded origin, and of its first bucket.
pub(crate) const DEMO: &str = "demo";

/// The section of the embedded origin, for all of its buckets. Requests to the origin are signed. Every client may use it; if other
/// machines can reach the listener, for reads and listings only.
pub(crate) fn demo(
    server: &ServerConfig,
    costs: Costs,
    endpoint: Endpoint,
    credentials: Credentials,
) -> BucketConfig {
    let inherited = Inherited::of(server, true, costs);
    let mut bucket = resolve(Pattern::any(), defaults(), &inherited);
    bucket.is_embedded = true;
    bucket.auth = vec![AuthMethod::Anonymous];
    bucket.anonymous = match server.address.is_loopback() {
        true => Access::ALL.to_vec(),
        false => vec![Access::Read, Access::List],
    };
    bucket.upstream.endpoints = vec![endpoint];
    bucket.upstream.credentials = Some(credentials);
    bucket
}
