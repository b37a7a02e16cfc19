//! nginx, configured with the equivalent guards. It cannot queue for an upstream: above the cap it refuses immediately.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::peer::{ProxyRoute, ProxyTransport};
use crate::certificate::Certificate;
use crate::guards;

/// The processes of nginx.
#[derive(Clone, Copy)]
pub(super) enum NginxProcesses {
    /// A master and a worker for each of two cores.
    Workers,
    /// One for everything.
    Single,
}

pub(super) fn with_workers(
    directory: &Path,
    address: SocketAddr,
    routes: &[ProxyRoute],
    transport: ProxyTransport<'_>,
) -> io::Result<Vec<String>> {
    configure(directory, address, routes, transport, NginxProcesses::Workers)
}

pub(super) fn configure(
    directory: &Path,
    address: SocketAddr,
    routes: &[ProxyRoute],
    transport: ProxyTransport<'_>,
    processes: NginxProcesses,
) -> io::Result<Vec<String>> {
    let file = directory.join("nginx.conf");
    fs::write(&file, text(directory, address, routes, transport))?;
    let [prefix, file] = [directory, &file].map(|path| path.to_string_lossy().into_owned());
    let global = match processes {
        NginxProcesses::Workers => "daemon off; worker_processes 2;",
        NginxProcesses::Single => "daemon off; master_process off;",
    };
    Ok(["-e", "stderr", "-g", global, "-p", &prefix, "-c", &file].map(str::to_owned).to_vec())
}

fn text(
    directory: &Path,
    address: SocketAddr,
    routes: &[ProxyRoute],
    transport: ProxyTransport<'_>,
) -> String {
    let (listen, tls) = match transport {
        ProxyTransport::Cleartext => ("", String::new()),
        ProxyTransport::Tls(certificate) => (" ssl http2", tls(certificate)),
    };
    let upstreams: String = routes.iter().map(upstream).collect();
    let locations: String = routes.iter().map(location).collect();
    let (rate, body_mib) = (guards::REQUESTS_PER_SECOND, guards::BODY_MIB);
    let (tries, connect, answer) = (guards::ATTEMPTS, guards::CONNECT_SECONDS, guards::FIRST_BYTE_SECONDS);
    // A request line must fit into one of these buffers, the header section into all of them.
    let (buffers, buffer) = ((guards::HEADER_KIB << 10) / guards::URI_BYTES, guards::URI_BYTES);
    let home = directory.display();
    format!(
        "pid {home}/nginx.pid;
error_log {home}/error.log error;
events {{ worker_connections 8192; }}
http {{
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxied;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  log_format timed '$remote_addr [$time_iso8601] \"$request\" $status $bytes_sent $request_time';
  access_log {home}/access.log timed buffer=32k;
  limit_req_zone $server_addr zone=everyone:64k rate={rate}r/s;
  limit_req_zone $binary_remote_addr zone=client:10m rate={rate}r/s;
  limit_req_status 429; limit_conn_status 503;
  large_client_header_buffers {buffers} {buffer}; client_max_body_size {body_mib}m;
  client_header_timeout 5s; keepalive_timeout 75s; keepalive_requests 100000000;
  proxy_http_version 1.1; proxy_set_header Connection \"\";
  proxy_connect_timeout {connect}s; proxy_read_timeout {answer}s; proxy_send_timeout {answer}s;
  proxy_next_upstream error timeout http_503; proxy_next_upstream_tries {tries};
  proxy_request_buffering off; proxy_max_temp_file_size 0; client_body_buffer_size 256k;
  proxy_buffer_size 16k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
{upstreams}  server {{
    listen {address}{listen} backlog=4096;
{tls}    error_page 502 = @refused;
    location @refused {{ return 503; }}
{locations}  }}
}}
"
    )
}

fn tls(certificate: &Certificate) -> String {
    let [certificate, key] = certificate.files().map(Path::display);
    format!(
        "    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m;\n"
    )
}

/// The endpoint is listed twice, because nginx neither counts failures nor retries with a single server.
fn upstream(route: &ProxyRoute) -> String {
    let (name, endpoint) = (route.name, route.endpoint);
    let concurrent = if route.is_capped() { guards::CAPPED_CONCURRENT } else { guards::CONCURRENT };
    let half = concurrent / 2;
    let (failures, open, rate) = (guards::FAILURES, guards::OPEN_SECONDS, guards::REQUESTS_PER_SECOND);
    let server = format!("server {endpoint} max_conns={half} max_fails={failures} fail_timeout={open}s;");
    format!(
        "  limit_req_zone $server_addr zone={name}:64k rate={rate}r/s;
  upstream {name} {{ zone up_{name} 64k; {server} {server} keepalive 512; keepalive_requests 100000000; }}\n"
    )
}

fn location(route: &ProxyRoute) -> String {
    let (name, burst) = (route.name, guards::REQUESTS_PER_SECOND);
    let limit = |zone: &str| format!("limit_req zone={zone} burst={burst} nodelay;");
    let limits = [limit("everyone"), limit("client"), limit(name)].join(" ");
    format!("    location /{name}/ {{ {limits} proxy_pass http://{name}; }}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::RunDirectory;

    #[test]
    fn a_listener_has_tls_only_with_a_certificate() {
        let directory = RunDirectory::create("test-nginx").unwrap();
        let certificate = Certificate::create(directory.path()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let routes = [ProxyRoute { name: "small", endpoint: address }];
        let text = |transport| text(Path::new("/x"), address, &routes, transport);
        let cleartext = text(ProxyTransport::Cleartext);
        assert!(cleartext.contains("listen 127.0.0.1:9 backlog=4096;\n"), "{cleartext}");
        assert!(!cleartext.contains("ssl"), "{cleartext}");
        let tls = text(ProxyTransport::Tls(&certificate));
        assert!(tls.contains("listen 127.0.0.1:9 ssl http2 backlog=4096;\n"), "{tls}");
        for file in certificate.files() {
            assert!(tls.contains(&format!(" {};", file.display())), "{tls}");
        }
        directory.discard();
    }
}
