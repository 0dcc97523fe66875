//! InitProducerId: an identity for an idempotent producer.
//!
//! *Owns*: the request's rules. *Does not own*: the ids (broker/producer_ids.rs).
//!
//! Transactions are not served yet: a transactional id is refused, not half-served.
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use tidewater_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use super::call::Call;

pub(crate) async fn handle(call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    match request.transactional_id.as_deref() {
        None => {}
        Some("") => return refuse(ErrorCode::INVALID_REQUEST),
        // FindCoordinator never names a transaction coordinator, so only a client that does not
        // ask it comes here; this error is final for it.
        Some(_) => return refuse(ErrorCode::INVALID_REQUEST),
    }
    // An idempotent producer that asks again (KIP-360) gets a new id: its sequences start over.
    match call
        .broker
        .producer_ids
        .next(call.broker.store.metadata())
        .await
    {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(refusal) => refuse(refusal.code),
    }
}
