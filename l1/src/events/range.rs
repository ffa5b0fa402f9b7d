//! Logs of a range of blocks, in pieces that the endpoint is willing to serve.

use super::{EventError, failed};
use crate::provider::{explain, is_connection_fault};
use alloy::{
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
};

/// The logs from `from` on, as far towards `to` as one answer reaches: returns the last block covered.
///
/// Endpoints limit the number of results or blocks in words and codes of their own, so any refusal halves the range.
pub async fn logs(
    provider: &DynProvider,
    filter: &Filter,
    from: u64,
    to: u64,
) -> Result<(u64, Vec<Log>), EventError> {
    let mut end = to;
    loop {
        match provider
            .get_logs(&filter.clone().from_block(from).to_block(end))
            .await
        {
            Ok(logs) => return Ok((end, logs)),
            Err(error) if is_connection_fault(&error) => return Err(failed("logs", &error)),
            Err(error) if end == from => {
                return Err(EventError::Refused {
                    what: "logs",
                    block: from,
                    cause: explain(&error),
                });
            }
            Err(error) => {
                tracing::debug!(
                    from,
                    end,
                    cause = explain(&error),
                    "range of logs is halved"
                );
                end = from + (end - from) / 2;
            }
        }
    }
}
