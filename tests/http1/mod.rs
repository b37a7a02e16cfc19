//! HTTP/1.1 with valid and malformed requests: heads, bodies, answers, and the connection's state afterwards.

mod bodies;
mod connections;
mod heads;
mod versions;

use crate::support::{Client, Gateway, Response};

/// All answers to these bytes, until the gateway closes the connection.
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
