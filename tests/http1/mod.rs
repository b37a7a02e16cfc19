//! HTTP/1.1 from valid and malformed clients: heads, bodies, answers, and the state of the connection afterwards.

mod bodies;
mod connections;
mod heads;
mod versions;

use crate::support::{Client, Gateway, Response};

/// What is left on a connection after these bytes: every answer, until the gateway closes.
async fn answers(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Vec<Response> {
    let mut client = Client::connect(gateway.address()).await;
    client.send(bytes).await;
    let mut answers = Vec::new();
    while let Some(answer) = client.try_response("GET").await {
        answers.push(answer);
    }
    answers
}

/// Their statuses.
async fn statuses(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    answers(gateway, bytes).await.iter().map(Response::complete_status).collect()
}
