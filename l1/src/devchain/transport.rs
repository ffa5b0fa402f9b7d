//! The dev chain as alloy's transport, and as a JSON-RPC endpoint for whoever mounts it under HTTP.

use super::{DevChain, DevChainError, rpc::Answer};
use alloy::{
    rpc::json_rpc::{
        ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest,
    },
    transports::{TransportError, TransportFut},
};
use serde_json::{Value, json, value::RawValue};
use std::task::{Context, Poll};

/// How many requests one batch may hold.
pub const BATCH_LIMIT: usize = 1000;

impl DevChain {
    /// Answers the body of an HTTP request: one JSON-RPC request or a batch of them.
    ///
    /// Never fails: faults are JSON-RPC errors in the answer. A request without an id is answered all the same.
    pub fn handle(&self, body: &[u8]) -> Vec<u8> {
        let answer = match serde_json::from_slice(body) {
            Ok(request) => self.handle_json(&request),
            Err(error) => error_json(Value::Null, &DevChainError::Parse(error.to_string())),
        };
        answer.to_string().into_bytes()
    }

    /// Answers one JSON-RPC request or a batch of them.
    pub fn handle_json(&self, request: &Value) -> Value {
        match request {
            Value::Array(batch) if batch.is_empty() || batch.len() > BATCH_LIMIT => {
                let cause = format!(
                    "a batch holds 1 to {BATCH_LIMIT} requests, not {}",
                    batch.len()
                );
                error_json(Value::Null, &DevChainError::InvalidRequest(cause))
            }
            Value::Array(batch) => batch
                .iter()
                .map(|request| self.handle_one(request))
                .collect(),
            single => self.handle_one(single),
        }
    }

    fn handle_one(&self, request: &Value) -> Value {
        let id = request.get("id").cloned().unwrap_or_default();
        match self.answer(request) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => error_json(id, &error),
        }
    }

    fn answer(&self, request: &Value) -> Answer {
        let method = request.get("method").and_then(Value::as_str);
        let method =
            method.ok_or_else(|| DevChainError::InvalidRequest("no method is named".into()))?;
        match request.get("params") {
            None | Some(Value::Null) => self.request(method, &[]),
            Some(Value::Array(params)) => self.request(method, params),
            Some(_) => Err(DevChainError::InvalidRequest(
                "parameters are not an array".into(),
            )),
        }
    }

    fn respond(&self, request: &SerializedRequest) -> Response {
        let params = request
            .params()
            .map(|raw| serde_json::from_str::<Vec<Value>>(raw.get()));
        let answer = match params.transpose() {
            Ok(params) => self.request(request.method(), &params.unwrap_or_default()),
            Err(error) => Err(DevChainError::InvalidRequest(format!(
                "parameters: {error}"
            ))),
        };
        let payload = match answer {
            Ok(result) => ResponsePayload::Success(raw(&result)),
            Err(error) => ResponsePayload::Failure(ErrorPayload {
                code: error.code(),
                message: error.to_string().into(),
                data: error.data().map(|data| raw(&json!(data))),
            }),
        };
        Response {
            id: request.id().clone(),
            payload,
        }
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a JSON value prints as JSON")
}

fn error_json(id: Value, error: &DevChainError) -> Value {
    let mut object = json!({"code": error.code(), "message": error.to_string()});
    if let Some(data) = error.data() {
        object["data"] = json!(data);
    }
    json!({"jsonrpc": "2.0", "id": id, "error": object})
}

impl tower::Service<RequestPacket> for DevChain {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let chain = self.clone();
        Box::pin(async move {
            Ok(match packet {
                RequestPacket::Single(request) => ResponsePacket::Single(chain.respond(&request)),
                RequestPacket::Batch(batch) => ResponsePacket::Batch(
                    batch.iter().map(|request| chain.respond(request)).collect(),
                ),
            })
        })
    }
}
