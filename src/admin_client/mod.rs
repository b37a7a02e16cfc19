//! A client of the admin listener for the commands of the program, without a client library and without a runtime.
//!
//! `target.rs` finds the listener, `tls.rs` checks its certificate, `response.rs` reads a response, `events.rs` the events of a stream,
//! `timed_stream.rs` ends slow ones. `text.rs` has texts that several commands print.
//! Everything is bounded in time and in bytes: the other end may be any program.

pub(crate) mod events;
mod reply_error;
mod response;
mod target;
pub(crate) mod text;
mod timed_stream;
pub(crate) mod tls;

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use thiserror::Error;
use tidegate::telemetry::escape_controls;
use tidegate_actors::clock;

pub(crate) use reply_error::ReplyError;
pub(crate) use response::Response;
pub(crate) use target::{AdminTarget, InvalidTarget};
use timed_stream::{TimeLimit, TimedStream};

/// The longest attempt to connect to one address.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// The longest time for the connection, the request and the whole response. Of an event stream it is the time for the head.
const RESPONSE_TIME: Duration = Duration::from_secs(10);
/// The same of a reload, which builds all buckets anew. The admin listener replies within 30 s.
const RELOAD_TIME: Duration = Duration::from_secs(35);
/// The status of a reload that the gateway refuses; its document has the problems.
const REFUSED_RELOAD: u16 = 422;
/// Those of an upgrade that the gateway refuses, and of one that fails.
const REFUSED_UPGRADE: [u16; 2] = [409, 422];

/// What helps a client without the right token.
const TOKEN_HINT: &str = "; the token is that of the configuration: name the file of the gateway with --config FILE, or set \
                          TIDEGATE_ADMIN__TOKEN (or TIDEGATE_ADMIN__READ_TOKEN)";

/// What helps a client if its configuration differs from that of the running gateway.
const ADDRESS_HINT: &str = "; that is the address in the configuration: if admin.address or admin.port was changed after the start of \
                            the gateway, give the URL that its log line `listening` has";

/// A JSON document.
pub(crate) struct ReceivedDocument {
    /// As it was received, with its members in their order.
    pub(crate) text: String,
    pub(crate) value: Value,
}

/// Why a request has no response.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("{host} cannot be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("no connection to {address}: {source}{hint}")]
    Connect { address: SocketAddr, source: io::Error, hint: &'static str },
    #[error("{host} did not answer as the admin listener does: {source}")]
    Exchange { host: String, source: io::Error },
}

/// A connection with or without TLS.
trait Transport: Read + Write {
    /// Replaces the limit of the time.
    fn set_limit(&mut self, limit: TimeLimit);
}

impl Transport for TimedStream {
    fn set_limit(&mut self, limit: TimeLimit) {
        self.limit = limit;
    }
}

impl Transport for StreamOwned<ClientConnection, TimedStream> {
    fn set_limit(&mut self, limit: TimeLimit) {
        self.sock.limit = limit;
    }
}

impl AdminTarget {
    /// Sends a GET; the body of the response is read by the caller.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, ClientError> {
        self.send(&self.head("GET", path, headers), RESPONSE_TIME)
    }

    /// Sends `POST /reload`, and returns the document of an accepted or a refused reload. `document` is its name in an error.
    pub(crate) fn post_reload(&self, document: &'static str) -> Result<Value, ReplyError> {
        self.change(("POST", "/reload"), RELOAD_TIME, &[REFUSED_RELOAD], document)
    }

    /// Sends `POST /upgrade`, and returns the document of an upgrade that is done, refused or failed. `upgrade_time` is the longest one.
    pub(crate) fn post_upgrade(
        &self,
        upgrade_time: Duration,
        document: &'static str,
    ) -> Result<Value, ReplyError> {
        self.change(("POST", "/upgrade"), upgrade_time + RELOAD_TIME, &REFUSED_UPGRADE, document)
    }

    /// Sends a request that changes something. A reply with one of the statuses `refused` has a document too.
    fn change(
        &self,
        (method, path): (&str, &str),
        time: Duration,
        refused: &[u16],
        document: &'static str,
    ) -> Result<Value, ReplyError> {
        let response = self.send(&self.head(method, path, &[("content-length", "0")]), time)?;
        let response = if refused.contains(&response.status) { response } else { self.accepted(response)? };
        let body = response.body().map_err(|source| self.broken(source))?;
        serde_json::from_slice(&body).map_err(|_| self.no_document(document))
    }

    /// Sends a request that changes something, and returns the document of its reply. `document` is its name in an error.
    pub(crate) fn send_for_document(
        &self,
        method: &str,
        path: &str,
        document: &'static str,
    ) -> Result<Value, ReplyError> {
        self.change((method, path), RESPONSE_TIME, &[], document)
    }

    /// Sends a request without a body.
    fn send(&self, head: &str, time: Duration) -> Result<Response, ClientError> {
        let failed = |source| ClientError::Exchange { host: self.host.clone(), source };
        let limit = TimeLimit::deadline(time, clock::now());
        let stream = self.connect(limit)?;
        let mut transport: Box<dyn Transport> = match &self.tls {
            None => Box::new(stream),
            Some(trust) => Box::new(tls::tls_stream(stream, self.server_name(), trust).map_err(failed)?),
        };
        transport.write_all(head.as_bytes()).map_err(failed)?;
        transport.flush().map_err(failed)?;
        Response::read(BufReader::new(transport)).map_err(failed)
    }

    /// The JSON document at a path. `document` is its name in an error.
    pub(crate) fn get_document(
        &self,
        path: &str,
        document: &'static str,
    ) -> Result<ReceivedDocument, ReplyError> {
        let response = self.accepted(self.get(path, &[])?)?;
        let body = response.body().map_err(|source| self.broken(source))?;
        let text = String::from_utf8(body).map_err(|_| self.no_document(document))?;
        let value = serde_json::from_str(&text).map_err(|_| self.no_document(document))?;
        Ok(ReceivedDocument { text, value })
    }

    /// The response, or the message of its refusal.
    pub(crate) fn accepted(&self, response: Response) -> Result<Response, ReplyError> {
        let status = response.status;
        if status == 200 {
            return Ok(response);
        }
        let body = response.body().unwrap_or_default();
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = &document["error"];
        let has_document = error["code"].is_string() && error["message"].is_string();
        let detail = match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => format!("{}: {}", escape_controls(code), escape_controls(message)),
            _ => "it has no error document; is it the admin listener of a tidegate?".to_owned(),
        };
        let hint = if matches!(status, 401 | 403) { TOKEN_HINT } else { "" };
        Err(ReplyError::Refused { host: self.host.clone(), status, detail, has_document, hint })
    }

    pub(crate) fn no_document(&self, document: &'static str) -> ReplyError {
        ReplyError::NoDocument { host: self.host.clone(), document }
    }

    pub(crate) fn broken(&self, source: io::Error) -> ReplyError {
        ReplyError::Broken { host: self.host.clone(), source }
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host);
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {}\r\n", token.expose());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Connects to the first address that accepts.
    fn connect(&self, limit: TimeLimit) -> Result<TimedStream, ClientError> {
        let unresolved = |source| ClientError::Resolve { host: self.host.clone(), source };
        let addresses = (self.name.as_str(), self.port).to_socket_addrs().map_err(unresolved)?;
        let mut last = unresolved(io::Error::other("the name has no address"));
        for address in addresses {
            let connected = limit.left(clock::now()).and_then(|left| {
                let stream = TcpStream::connect_timeout(&address, left.min(CONNECT_TIME))?;
                stream.set_nodelay(true)?;
                Ok(TimedStream { stream, limit })
            });
            match connected {
                Ok(stream) => return Ok(stream),
                Err(source) => last = ClientError::Connect { address, source, hint: self.hint },
            }
        }
        Err(last)
    }
}
