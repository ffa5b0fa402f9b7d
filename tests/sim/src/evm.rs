//! The real contract: the committed bytecode of `Channels.sol` on revm, beside the reference.
//!
//! `Tx → calldata with real signatures → revm → changes of the world, and how to undo them`; then every word of storage that
//! the call could have touched is compared with the reference's state. A reorg undoes blocks on both.
//!
//! Nodes sign by checksums, which are a thousand times cheaper. What goes to the contract is signed again with the node's
//! secp256k1 key: a checksum that does not verify becomes a signature that does not recover.

use crate::contract::{Contract, Revert};
use crate::keys::{hot_key, node_of, signed_by};
use crate::l1::{Call, Tx};
use alloy::primitives::{Address as EvmAddress, B256, Bytes, TxKind, U256, keccak256};
use alloy::sol_types::{SolCall, SolError};
use millrace_channels::digest;
use millrace_channels::machine::dispute::{ChainPhase, OnChain};
use millrace_channels::machine::effect::Transaction;
use millrace_channels::signing::Keys;
use millrace_channels::state::{Half, Halves, Lock, Params, pack_list};
use millrace_channels::types::{
    Address, ChannelId, Hash32, PaymentHash, Side, Signature, Timestamp,
};
use millrace_l1::bindings::{Channels, IChannels};
use millrace_l1::devchain::evm::{BlockEnvironment, Rules, execute};
use millrace_l1::devchain::world::{Account, Undo, View, World};
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The simulated chain's id.
pub const CHAIN_ID: u64 = 31_337;
const DEPLOYER: EvmAddress = EvmAddress::repeat_byte(0xde);
const GAS: u64 = 60_000_000;
/// What each caller owns, wei: more than any deposit.
const RICHES: u128 = 1 << 120;
/// The epoch of a channel that is closed for good.
const CLOSED: u32 = u32::MAX;
/// The epoch's bit of a channel that is closing.
const CLOSING: u32 = 1 << 31;

/// The contract deployed in an empty world, once per process.
static DEPLOYED: LazyLock<(World, EvmAddress)> = LazyLock::new(|| {
    let mut world = World::default();
    let (result, _) = transact(
        &mut world,
        DEPLOYER,
        TxKind::Create,
        0,
        Channels::BYTECODE.clone(),
        1,
    );
    assert!(result.is_ok(), "the committed bytecode deploys");
    (world, DEPLOYER.create(0))
});

/// Why a call reverted: the selector of its error, or zero if it ran out of something.
pub type Selector = [u8; 4];

/// The contract's address.
pub fn contract_address() -> Address {
    Address(DEPLOYED.1.into_array())
}

fn transact(
    world: &mut World,
    sender: EvmAddress,
    kind: TxKind,
    value: u128,
    data: Bytes,
    now: Timestamp,
) -> (Result<(), Selector>, Undo) {
    let block = BlockEnvironment {
        number: 1,
        timestamp: now,
        base_fee: 0,
        gas_limit: GAS,
        prevrandao: B256::ZERO,
    };
    let transaction = TxEnv::builder()
        .caller(sender)
        .gas_limit(GAS)
        .kind(kind)
        .value(U256::from(value))
        .data(data)
        .chain_id(Some(CHAIN_ID))
        .gas_price(0)
        .build()
        .expect("all fields are given and fit each other");
    let view = View {
        world,
        past: None,
        blocks: &[],
    };
    let done = execute(view, CHAIN_ID, &block, transaction, Rules::Call)
        .expect("the caller is rich and a call has no fees");
    let result = match done.result {
        ExecutionResult::Success { .. } => Ok(()),
        ExecutionResult::Revert { output, .. } => {
            Err(output.first_chunk::<4>().copied().unwrap_or_default())
        }
        ExecutionResult::Halt { .. } => Err([0; 4]),
    };
    (result, world.apply(done.state))
}

/// The contract and its world.
pub struct Evm {
    world: World,
    signatures: BTreeMap<(u8, Hash32), Signature>,
}

impl Default for Evm {
    fn default() -> Self {
        Self {
            world: DEPLOYED.0.clone(),
            signatures: BTreeMap::new(),
        }
    }
}

impl Evm {
    /// Executes a transaction in a block of this time.
    pub fn apply(&mut self, tx: &Tx, now: Timestamp) -> (Result<(), Selector>, Undo) {
        let (value, data) = self.calldata(&tx.call);
        let sender = EvmAddress::from(tx.sender.0);
        let rich = Account {
            balance: U256::from(RICHES),
            ..self.world.account(sender)
        };
        self.world.set_account(sender, rich);
        transact(
            &mut self.world,
            sender,
            TxKind::Call(DEPLOYED.1),
            value,
            data.into(),
            now,
        )
    }

    /// From now on a receiver refuses money.
    pub fn refuse_money(&mut self, receiver: &Address) {
        // PUSH0 PUSH0 REVERT
        let code = vec![0x5f, 0x5f, 0xfd].into();
        self.world.set_code(EvmAddress::from(receiver.0), code);
    }

    /// Takes back what a block changed.
    pub fn undo(&mut self, undo: &Undo) {
        self.world.revert(undo);
    }

    fn calldata(&mut self, call: &Call) -> (u128, Vec<u8>) {
        match call {
            Call::Deposit {
                params,
                side,
                amount,
            } => {
                let call = Channels::depositCall {
                    params: of_params(params),
                    sideB: *side == Side::B,
                    amount: U256::from(*amount),
                };
                (*amount, call.abi_encode())
            }
            Call::Close {
                params,
                valid_until,
                signature,
            } => {
                let id = id_of(params);
                let digest = digest::close(&separator(), &id, *valid_until);
                let either = [params.signer_a, params.signer_b]
                    .into_iter()
                    .find(|signer| signed_by(signer, &digest, signature))
                    .unwrap_or(Address::ZERO);
                let signature = self.real(&either, &digest, signature);
                let submit = self.submit(params, &Halves::ZERO, (&[], &[]), None);
                let call = Channels::submitCall {
                    closeUntil: *valid_until,
                    closeSig: signature,
                    ..submit
                };
                (0, call.abi_encode())
            }
            Call::Node(transaction) => (0, self.node_calldata(transaction)),
        }
    }

    fn node_calldata(&mut self, transaction: &Transaction) -> Vec<u8> {
        match transaction {
            Transaction::Cooperate {
                params,
                coop,
                signature_a,
                signature_b,
            } => {
                let digest = digest::coop(&separator(), &id_of(params), coop);
                Channels::cooperateCall {
                    params: of_params(params),
                    payA: coop.pay_a.try_into().expect("a payout is below 2^112"),
                    payB: coop.pay_b.try_into().expect("a payout is below 2^112"),
                    validUntil: coop.valid_until,
                    sigA: self.real(&params.signer_a, &digest, signature_a),
                    sigB: self.real(&params.signer_b, &digest, signature_b),
                }
                .abi_encode()
            }
            Transaction::Submit {
                params,
                halves,
                list_a,
                list_b,
                signatures,
            } => self
                .submit(params, halves, (list_a, list_b), *signatures)
                .abi_encode(),
            Transaction::Settle {
                params,
                list_a,
                list_b,
            } => Channels::settleCall {
                params: of_params(params),
                listA: pack_list(list_a).into(),
                listB: pack_list(list_b).into(),
            }
            .abi_encode(),
            Transaction::Reveal { preimages } => Channels::revealCall {
                preimages: preimages
                    .iter()
                    .map(|preimage| B256::from(preimage.0))
                    .collect(),
            }
            .abi_encode(),
        }
    }

    fn submit(
        &mut self,
        params: &Params,
        halves: &Halves,
        (list_a, list_b): (&[Lock], &[Lock]),
        signatures: Option<(Signature, Signature)>,
    ) -> Channels::submitCall {
        let digest = digest::snapshot(&separator(), &id_of(params), halves);
        let (a, b) = match signatures {
            Some((a, b)) => (
                self.real(&params.signer_a, &digest, &a),
                self.real(&params.signer_b, &digest, &b),
            ),
            None => (Bytes::new(), Bytes::new()),
        };
        Channels::submitCall {
            params: of_params(params),
            halves: IChannels::Halves {
                a: of_half(&halves.a),
                b: of_half(&halves.b),
            },
            listA: pack_list(list_a).into(),
            listB: pack_list(list_b).into(),
            sigA: a,
            sigB: b,
            closeUntil: 0,
            closeSig: Bytes::new(),
        }
    }

    /// The real signature for a simulated one, or one that recovers to nobody.
    fn real(&mut self, signer: &Address, digest: &Hash32, simulated: &Signature) -> Bytes {
        let node = node_of(signer).filter(|_| signed_by(signer, digest, simulated));
        let Some(node) = node else {
            return vec![0x11; 65].into();
        };
        let signature = self
            .signatures
            .entry((node, *digest))
            .or_insert_with(|| hot_key(node).sign(digest));
        signature.0.to_vec().into()
    }

    // ---- Comparison ----

    fn word(&self, slot: U256) -> U256 {
        let view = View {
            world: &self.world,
            past: None,
            blocks: &[],
        };
        view.storage(DEPLOYED.1, slot)
    }

    /// Where the contract's state of a channel is another than the reference's.
    pub fn differs(&self, reference: &Contract, params: &Params) -> Option<String> {
        let id = id_of(params);
        let expected = reference.channels.get(&id).map(|(_, chain)| chain);
        let found = self.word(mapping(0, &id.0));
        let wanted = state_word(expected);
        if found != wanted {
            return Some(format!(
                "state of {id}: contract {found:#x}, reference {wanted:#x}"
            ));
        }
        let base = mapping(1, &id.0);
        for (offset, wanted) in contest_words(expected).into_iter().enumerate() {
            let found = self.word(base + U256::from(offset));
            if found != wanted {
                return Some(format!(
                    "dispute word {offset} of {id}: contract {found:#x}, reference {wanted:#x}"
                ));
            }
        }
        let owed: u128 = reference.claimable.values().sum();
        let pot = U256::from(reference.pot().unsigned_abs() + owed);
        let held = self.world.account(DEPLOYED.1).balance;
        if pot != held {
            return Some(format!("the contract holds {held}, the reference {pot}"));
        }
        [params.payout_a, params.payout_b]
            .iter()
            .find_map(|payout| {
                let owed = self.word(claimable(payout));
                let expected = reference.claimable.get(payout).copied().unwrap_or(0);
                if owed != U256::from(expected) {
                    return Some(format!(
                        "{payout} can claim {owed}, by the reference {expected}"
                    ));
                }
                let has = self.world.account(EvmAddress::from(payout.0)).balance;
                let wanted = U256::from(reference.paid_out.get(payout).copied().unwrap_or(0));
                // A payout address that also sends transactions has more.
                (has != wanted && has < U256::from(RICHES / 2))
                    .then(|| format!("{payout} was paid {has}, by the reference {wanted}"))
            })
    }

    /// Where the registry says another time than the reference.
    pub fn reveal_differs(&self, reference: &Contract, hash: &PaymentHash) -> Option<String> {
        let found = self.word(mapping(2, &hash.0));
        let wanted = reference.reveals.get(hash).map_or(0, |(at, _)| *at);
        (found != U256::from(wanted))
            .then(|| format!("reveal of {hash}: contract {found}, reference {wanted}"))
    }
}

/// The separator of the simulated contract.
pub fn separator() -> Hash32 {
    static SEPARATOR: LazyLock<Hash32> = LazyLock::new(|| {
        digest::Domain {
            chain_id: CHAIN_ID,
            contract: contract_address(),
        }
        .separator()
    });
    *SEPARATOR
}

fn id_of(params: &Params) -> ChannelId {
    digest::channel_id(&separator(), params)
}

fn mapping(slot: u8, key: &[u8; 32]) -> U256 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(key);
    bytes[63] = slot;
    U256::from_be_bytes(keccak256(bytes).0)
}

/// Where the contract keeps what an account can claim of Ether.
fn claimable(account: &Address) -> U256 {
    let inner = mapping(3, &[0; 32]).to_be_bytes::<32>();
    let mut bytes = [0; 64];
    bytes[12..32].copy_from_slice(&account.0);
    bytes[32..].copy_from_slice(&inner);
    U256::from_be_bytes(keccak256(bytes).0)
}

/// The state word that the reference's channel would have.
fn state_word(chain: Option<&OnChain>) -> U256 {
    let Some(chain) = chain else {
        return U256::ZERO;
    };
    let epoch = match chain.phase {
        ChainPhase::Open => chain.epoch,
        ChainPhase::Closing(_) => chain.epoch | CLOSING,
        ChainPhase::Cooperated | ChainPhase::Settled { .. } => {
            return U256::from(CLOSED) << 224;
        }
    };
    let net = |net: i128| U256::from(net.cast_unsigned() & ((1 << 112) - 1));
    net(chain.net_a) | (net(chain.net_b) << 112) | (U256::from(epoch) << 224)
}

/// The four words of a dispute.
fn contest_words(chain: Option<&OnChain>) -> [U256; 4] {
    let Some(ChainPhase::Closing(dispute)) = chain.map(|chain| &chain.phase) else {
        return [U256::ZERO; 4];
    };
    let (a, b) = (dispute.halves.a, dispute.halves.b);
    let flag = |half: &Half, bit: usize| U256::from(u8::from(half.locks.0 != [0; 32])) << bit;
    let head = U256::from(dispute.deadline)
        | (U256::from(a.version) << 64)
        | (U256::from(b.version) << 128)
        | flag(&a, 192)
        | flag(&b, 193);
    [
        head,
        U256::from(a.paid) | (U256::from(b.paid) << 112),
        U256::from_be_bytes(a.locks.0),
        U256::from_be_bytes(b.locks.0),
    ]
}

fn of_params(params: &Params) -> IChannels::Params {
    IChannels::Params {
        signerA: params.signer_a.0.into(),
        payoutA: params.payout_a.0.into(),
        signerB: params.signer_b.0.into(),
        payoutB: params.payout_b.0.into(),
        token: params.token.0.into(),
        window: params.window_secs,
        salt: params.salt,
    }
}

fn of_half(half: &Half) -> IChannels::Half {
    IChannels::Half {
        version: half.version,
        paid: half.paid.try_into().expect("what is paid is below 2^112"),
        locks: half.locks.0.into(),
    }
}

/// Whether reference and contract refuse for the same reason.
pub fn agree(reference: Result<(), Revert>, contract: Result<(), Selector>) -> bool {
    match (reference, contract) {
        (Ok(()), Ok(())) => true,
        (Err(revert), Err(selector)) => selectors(revert).contains(&selector),
        _ => false,
    }
}

/// The contract's errors for one of the reference's.
fn selectors(revert: Revert) -> Vec<Selector> {
    use Channels as C;
    match revert {
        Revert::Params(_) => vec![
            C::SignerIsZero::SELECTOR,
            C::SignersEqual::SELECTOR,
            C::PayoutIsZero::SELECTOR,
            C::WindowOutOfRange::SELECTOR,
        ],
        Revert::Amount(0) => vec![C::AmountIsZero::SELECTOR],
        Revert::Amount(_) => vec![C::PotTooLarge::SELECTOR],
        Revert::NotOpen => vec![C::ChannelClosing::SELECTOR, C::ChannelClosed::SELECTOR],
        Revert::NoChannel => vec![
            C::ChannelNotOpen::SELECTOR,
            C::ChannelClosed::SELECTOR,
            C::ChannelNotClosing::SELECTOR,
        ],
        Revert::Unauthorised => vec![
            C::SignatureInvalid::SELECTOR,
            C::NotAuthorisedToClose::SELECTOR,
        ],
        Revert::Expired => vec![C::Expired::SELECTOR],
        // The contract does not ask for the epoch: a signature of another one is of something else.
        Revert::Epoch => vec![C::SignatureInvalid::SELECTOR],
        Revert::Overdraw => vec![C::Overdrawn::SELECTOR],
        Revert::Stale => vec![C::NothingNewer::SELECTOR],
        Revert::Late => vec![C::DeadlinePassed::SELECTOR],
        Revert::Early => vec![C::DeadlineNotPassed::SELECTOR, C::LockPending::SELECTOR],
        Revert::List(_) => vec![
            C::ListMismatch::SELECTOR,
            C::ListLength::SELECTOR,
            C::TooManyLocks::SELECTOR,
            C::LockAmountTooLarge::SELECTOR,
            C::LockExpiryTooLate::SELECTOR,
        ],
        Revert::ZeroVersion => vec![C::ZeroHalfNotEmpty::SELECTOR],
    }
}
