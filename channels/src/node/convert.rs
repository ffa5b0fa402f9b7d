//! Between this crate's types and those of the contract's client.

use crate::digest::{self, Domain};
use crate::machine::effect::Transaction;
use crate::signing::Keys;
use crate::state::{Half, Halves, Params, pack_list};
use crate::types::{Address, ChannelId, LockRoot, Signature, Timestamp};
use alloy::primitives::{Address as L1Address, B256, Bytes, U256};
use millrace_l1::bindings::{Channels, IChannels};
use millrace_l1::channels_client::{
    ChannelsClient, CloseConsent, DisputeState, HalfState, PayoutTerms, Settlement, Submission,
    TooWide,
};
use millrace_l1::sender::Call;

/// A day, in seconds: close consents end at the turn of one, so that saying the same twice is the same transaction.
const DAY_SECS: u64 = 86_400;

/// An address for the client.
pub fn to_l1(address: Address) -> L1Address {
    L1Address::from(address.0)
}

/// An address from the client.
pub fn from_l1(address: L1Address) -> Address {
    Address(address.into_array())
}

/// A channel's name for the client.
pub fn to_b256(channel: &ChannelId) -> B256 {
    B256::from(channel.0)
}

/// Parameters for the client.
pub fn to_params(params: &Params) -> IChannels::Params {
    IChannels::Params {
        signerA: to_l1(params.signer_a),
        payoutA: to_l1(params.payout_a),
        signerB: to_l1(params.signer_b),
        payoutB: to_l1(params.payout_b),
        token: to_l1(params.token),
        window: params.window_secs,
        salt: params.salt,
    }
}

/// Parameters from the client.
pub fn from_params(params: &IChannels::Params) -> Params {
    Params {
        signer_a: from_l1(params.signerA),
        payout_a: from_l1(params.payoutA),
        signer_b: from_l1(params.signerB),
        payout_b: from_l1(params.payoutB),
        token: from_l1(params.token),
        window_secs: params.window,
        salt: params.salt,
    }
}

/// A half for the client.
pub fn to_half(half: &Half) -> HalfState {
    HalfState {
        version: half.version,
        paid: half.paid,
        locks: B256::from(half.locks.0),
    }
}

/// A half from the client.
pub fn from_half(half: &HalfState) -> Half {
    Half {
        version: half.version,
        paid: half.paid,
        locks: LockRoot(half.locks.0),
    }
}

/// The halves of a dispute.
pub fn from_dispute(dispute: &DisputeState) -> Halves {
    Halves {
        a: from_half(&dispute.a),
        b: from_half(&dispute.b),
    }
}

fn bytes(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(&signature.0)
}

/// What opens a dispute for a signer who does not send it himself.
fn consent(domain: &Domain, params: &Params, keys: &dyn Keys, now: Timestamp) -> CloseConsent {
    let separator = domain.separator();
    let id = digest::channel_id(&separator, params);
    let valid_until = (now / DAY_SECS + 2) * DAY_SECS;
    CloseConsent {
        valid_until,
        signature: bytes(&keys.sign(&digest::close(&separator, &id, valid_until))),
    }
}

/// Who asks for a transaction, as far as its content depends on that.
pub struct Author<'a> {
    /// The contract.
    pub domain: Domain,
    /// Signs consents.
    pub keys: &'a dyn Keys,
    /// The signer's address; none if it is no party of the channel, as a tower.
    pub signer: Option<Address>,
    /// The account that sends.
    pub sender: Address,
    /// The time.
    pub now: Timestamp,
}

/// The call that does what the machine asks for.
///
/// # Errors
/// [`TooWide`] never happens to what the machine accepted.
pub fn to_call(
    client: &ChannelsClient,
    author: &Author<'_>,
    transaction: &Transaction,
) -> Result<Call, TooWide> {
    Ok(match transaction {
        Transaction::Cooperate {
            params,
            coop,
            signature_a,
            signature_b,
        } => {
            let terms = PayoutTerms {
                pay_a: coop.pay_a,
                pay_b: coop.pay_b,
                valid_until: coop.valid_until,
                signature_a: bytes(signature_a),
                signature_b: bytes(signature_b),
            };
            client.call(U256::ZERO, terms.call(&to_params(params))?)
        }
        Transaction::Submit {
            params,
            halves,
            list_a,
            list_b,
            signatures,
        } => {
            let party = author.signer.filter(|signer| *signer != author.sender);
            let submission = Submission {
                a: to_half(&halves.a),
                b: to_half(&halves.b),
                list_a: pack_list(list_a).into(),
                list_b: pack_list(list_b).into(),
                signature_a: signatures
                    .as_ref()
                    .map(|(a, _)| bytes(a))
                    .unwrap_or_default(),
                signature_b: signatures
                    .as_ref()
                    .map(|(_, b)| bytes(b))
                    .unwrap_or_default(),
                consent: party.map(|_| consent(&author.domain, params, author.keys, author.now)),
            };
            client.call(U256::ZERO, submission.call(&to_params(params))?)
        }
        Transaction::Settle {
            params,
            list_a,
            list_b,
        } => {
            let settlement = Settlement {
                params: to_params(params),
                list_a: pack_list(list_a).into(),
                list_b: pack_list(list_b).into(),
            };
            client.call(U256::ZERO, settlement.call())
        }
        Transaction::Reveal { preimages } => {
            let preimages = preimages
                .iter()
                .map(|preimage| B256::from(preimage.0))
                .collect();
            client.call(U256::ZERO, Channels::revealCall { preimages })
        }
    })
}
