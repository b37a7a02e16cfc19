//! HAProxy, configured with the equivalent guards. It queues for a capped server as tidegate does.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::peer::{ProxyRoute, ProxyTransport};
use crate::guards;

pub(super) fn configure(
    directory: &Path,
    address: SocketAddr,
    routes: &[ProxyRoute],
    transport: ProxyTransport<'_>,
) -> io::Result<Vec<String>> {
    let file = directory.join("haproxy.cfg");
    let joined = match transport {
        ProxyTransport::Cleartext => None,
        ProxyTransport::Tls(certificate) => {
            let joined = directory.join("joined.pem");
            certificate.write_joined(&joined)?;
            Some(joined)
        }
    };
    fs::write(&file, text(address, routes, joined.as_deref()))?;
    Ok(["-db", "-f", &file.to_string_lossy()].map(str::to_owned).to_vec())
}

/// `joined` is the file of certificate and key; none for cleartext.
fn text(address: SocketAddr, routes: &[ProxyRoute], joined: Option<&Path>) -> String {
    let choices: String = routes
        .iter()
        .map(|route| format!("  use_backend {0} if {{ path_beg /{0}/ }}\n", route.name))
        .collect();
    let backends: String = routes.iter().map(backend).collect();
    let (rate, connect, answer) =
        (guards::REQUESTS_PER_SECOND, guards::CONNECT_SECONDS, guards::FIRST_BYTE_SECONDS);
    let (body, uri, buffer) = (guards::BODY_MIB << 20, guards::URI_BYTES, guards::HEADER_KIB << 10);
    let tls = joined
        .map(|file| format!(" ssl crt {} ssl-min-ver TLSv1.3 alpn h2,http/1.1", file.display()))
        .unwrap_or_default();
    // The access log goes to standard output, which the runner redirects to a file.
    format!(
        "global
  nbthread 2
  maxconn 8000
  log stdout format raw local0
  tune.bufsize {buffer}
  tune.ssl.cachesize 100000
defaults
  mode http
  log global
  option httplog
  timeout connect {connect}s
  timeout client 60s
  timeout server {answer}s
  timeout http-request 5s
  timeout http-keep-alive 75s
  http-reuse always
frontend front
  bind {address} backlog 4096{tls}
  stick-table type ip size 100k expire 60s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {rate} }}
  http-request deny deny_status 429 if {{ fe_req_rate gt {rate} }}
  http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {body} }}
  http-request return status 414 if {{ url,length gt {uri} }}
  http-request disable-l7-retry unless METH_GET
{choices}{backends}"
    )
}

/// `maxqueue` bounds the server's queue only. Further requests wait in the backend's queue, which has no bound.
fn backend(route: &ProxyRoute) -> String {
    let (name, endpoint) = (route.name, route.endpoint);
    let (concurrent, queued) = if route.is_capped() {
        (guards::CAPPED_CONCURRENT, guards::CAPPED_QUEUED)
    } else {
        (guards::CONCURRENT, guards::QUEUED)
    };
    let (rate, retries, wait) = (guards::REQUESTS_PER_SECOND, guards::ATTEMPTS - 1, guards::QUEUE_MS);
    let (failures, open) = (guards::FAILURES, guards::OPEN_SECONDS);
    format!(
        "backend {name}
  http-request deny deny_status 429 if {{ be_sess_rate gt {rate} }}
  http-request deny deny_status 503 if {{ queue({name}) ge {queued} }}
  retries {retries}
  retry-on conn-failure empty-response 503
  timeout queue {wait}ms
  default-server check inter {open}s fall 3 rise 1 observe layer7 error-limit {failures} on-error mark-down
  server only {endpoint} maxconn {concurrent} maxqueue {queued}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_tls_only_with_a_certificate() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let routes = [ProxyRoute { name: "small", endpoint: address }];
        let cleartext = text(address, &routes, None);
        assert!(cleartext.contains("bind 127.0.0.1:9 backlog 4096\n"), "{cleartext}");
        let tls = text(address, &routes, Some(Path::new("/x/joined.pem")));
        let bind =
            "bind 127.0.0.1:9 backlog 4096 ssl crt /x/joined.pem ssl-min-ver TLSv1.3 alpn h2,http/1.1\n";
        assert!(tls.contains(bind), "{tls}");
    }
}
