//! What a payment channel costs on L1, in ETH, with payout accounts that exist: one row for each operation.
//!
//! ```text
//! channel 1: open → deposit of the other side → cooperative close
//! channel 2: open both → close without locks → challenge → settle
//! channel 3: open both → close with one lock → challenge → reveal → settle: the sum is a dispute with one HTLC
//! ```
//! Who sends a transaction needs no signature of its own, so each is sent by a side, as a node does it.

use super::{GasRow, failed, floor, pass_time};
use crate::cli::{Exit, Failure};
use alloy::primitives::aliases::U112;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millrace_l1::bindings::IChannels::{Halves, Params};
use millrace_l1::channels_client::{
    ChannelsClient, HalfState, PayoutTerms, Settlement, Submission,
};
use millrace_l1::devchain::dev_signer;
use millrace_l1::provider::L1Provider;
use millrace_l1::sender::TransactionSender;
use sha2::{Digest, Sha256};

/// What each side deposits: 1 ETH.
const DEPOSIT: u128 = 1_000_000_000_000_000_000;
/// Of lock and payments: amounts of many digits, as real ones are.
const PAID: [u128; 2] = [12_345_678_901_000_000_000, 12_345_678_905_000_000_000];
const LOCKED: u128 = 123_456_700_000_000_000;
/// Time for a challenge.
const WINDOW_SECS: u32 = 24 * 3600;
/// The lock's time to live.
const LOCK_SECS: u64 = 3600;
/// Version of the halves that are submitted first: a channel that has been used.
const VERSION: u64 = 100_000;

struct Channels<'a> {
    l1: &'a L1Provider,
    client: ChannelsClient,
    keys: [PrivateKeySigner; 2],
    senders: [TransactionSender; 2],
    rows: Vec<GasRow>,
}

/// Measures all operations.
pub(super) async fn measure(l1: &L1Provider) -> Result<Vec<GasRow>, Failure> {
    let operator = TransactionSender::in_memory(l1.clone(), dev_signer(0));
    let deployed = ChannelsClient::deploy(&operator, "deploy-channels").await;
    let keys = [1, 2].map(dev_signer);
    let mut bench = Channels {
        l1,
        client: deployed.map_err(|error| failed(&error))?.value,
        senders: keys
            .clone()
            .map(|key| TransactionSender::in_memory(l1.clone(), key)),
        keys,
        rows: Vec::new(),
    };
    bench.cooperative().await?;
    bench.unilateral().await?;
    bench.disputed().await?;
    Ok(bench.rows)
}

impl Channels<'_> {
    fn params(&self, salt: u64) -> Params {
        Params {
            signerA: self.keys[0].address(),
            payoutA: dev_signer(3).address(),
            signerB: self.keys[1].address(),
            payoutB: dev_signer(4).address(),
            token: Address::ZERO,
            window: WINDOW_SECS,
            salt,
        }
    }

    /// Pays into a side; the gas is a row if it has a name.
    async fn deposit(
        &mut self,
        params: &Params,
        side: usize,
        operation: Option<&'static str>,
    ) -> Result<(), Failure> {
        let id = format!("channel-deposit-{}-{side}", params.salt);
        let amount = U256::from(DEPOSIT);
        let sent = self
            .client
            .deposit(&self.senders[side], &id, params, side == 1, amount);
        let receipt = sent.await.map_err(|error| failed(&error))?.receipt;
        match operation {
            Some(operation) => self.measured(operation, &receipt).await,
            None => Ok(()),
        }
    }

    async fn measured(
        &mut self,
        operation: &'static str,
        receipt: &TransactionReceipt,
    ) -> Result<(), Failure> {
        let gas_floor_7623 = self.floor_of(receipt).await?;
        self.rows.push(GasRow {
            operation,
            gas: receipt.gas_used,
            gas_floor_7623,
        });
        Ok(())
    }

    async fn floor_of(&self, receipt: &TransactionReceipt) -> Result<u64, Failure> {
        let hash = receipt.transaction_hash;
        let found = self.l1.provider().get_transaction_by_hash(hash).await;
        let found = found.map_err(|error| failed(&error))?;
        let found = found.ok_or_else(|| {
            Failure::new(Exit::Connection, format!("L1 lacks transaction {hash}"))
        })?;
        Ok(floor(alloy::consensus::Transaction::input(&found)))
    }

    fn sign(&self, side: usize, digest: B256) -> Result<Bytes, Failure> {
        let signature = self.keys[side].sign_hash_sync(&digest);
        let signature = signature.map_err(|error| failed(&error))?;
        Ok(Bytes::from(signature.as_bytes()))
    }

    async fn now(&self) -> Result<u64, Failure> {
        let latest = alloy::eips::BlockNumberOrTag::Latest;
        let block = self.l1.provider().get_block_by_number(latest).await;
        let block = block.map_err(|error| failed(&error))?;
        let block =
            block.ok_or_else(|| Failure::new(Exit::Connection, "L1 has no newest block"))?;
        Ok(block.header.timestamp)
    }

    async fn cooperative(&mut self) -> Result<(), Failure> {
        let params = self.params(1);
        self.deposit(&params, 0, Some("channel_open")).await?;
        self.deposit(&params, 1, Some("channel_deposit")).await?;
        let id = self.client.channel_id(&params).await;
        let id = id.map_err(|error| failed(&error))?;
        let valid_until = self.now().await? + LOCK_SECS;
        let (pay_a, pay_b) = (
            777_770_000_000_000_000,
            2 * DEPOSIT - 777_770_000_000_000_000,
        );
        let contract = self.client.contract();
        let digest = contract
            .coopDigest(id, 0, U112::from(pay_a), U112::from(pay_b), valid_until)
            .call()
            .await
            .map_err(|error| failed(&error))?;
        let payout = PayoutTerms {
            pay_a,
            pay_b,
            valid_until,
            signature_a: Bytes::new(),
            signature_b: self.sign(1, digest)?,
        };
        let sender = &self.senders[0];
        let closed = self
            .client
            .cooperate(sender, "channel-cooperate", &params, &payout)
            .await
            .map_err(|error| failed(&error))?;
        self.measured("channel_coop_close", &closed.receipt).await
    }

    async fn unilateral(&mut self) -> Result<(), Failure> {
        let params = self.params(2);
        self.deposit(&params, 0, None).await?;
        self.deposit(&params, 1, None).await?;
        let closed = self.submit(&params, 0, [VERSION, VERSION], &[]).await?;
        self.measured("channel_unilateral_close", &closed).await?;
        let challenged = self
            .submit(&params, 1, [VERSION + 1, VERSION + 2], &[])
            .await?;
        self.measured("channel_challenge", &challenged).await?;
        let settled = self.settle(params, &[]).await?;
        self.measured("channel_settle", &settled).await
    }

    /// One HTLC from the close to its payout, each side doing what it can.
    async fn disputed(&mut self) -> Result<(), Failure> {
        let params = self.params(3);
        self.deposit(&params, 0, None).await?;
        self.deposit(&params, 1, None).await?;
        let preimage = B256::from(keccak256("a preimage"));
        let mut list = Sha256::digest(preimage).to_vec();
        list.extend(LOCKED.to_be_bytes());
        list.extend((self.now().await? + LOCK_SECS).to_be_bytes());
        let closed = self.submit(&params, 1, [VERSION, VERSION], &list).await?;
        let challenged = self
            .submit(&params, 0, [VERSION, VERSION + 7], &list)
            .await?;
        let revealed = self
            .client
            .reveal(&self.senders[1], "channel-reveal", vec![preimage])
            .await
            .map_err(|error| failed(&error))?;
        self.measured("channel_reveal", &revealed.receipt).await?;
        let settled = self.settle(params, &list).await?;
        let mut whole = GasRow {
            operation: "channel_disputed_htlc",
            gas: 0,
            gas_floor_7623: 0,
        };
        for receipt in [&closed, &challenged, &revealed.receipt, &settled] {
            whole.gas += receipt.gas_used;
            whole.gas_floor_7623 += self.floor_of(receipt).await?;
        }
        self.rows.push(whole);
        Ok(())
    }

    /// A snapshot with these versions, sent by one side and signed by the other.
    async fn submit(
        &self,
        params: &Params,
        side: usize,
        versions: [u64; 2],
        list_a: &[u8],
    ) -> Result<TransactionReceipt, Failure> {
        let half = |which: usize, list: &[u8]| HalfState {
            version: versions[which],
            paid: PAID[which],
            locks: if list.is_empty() {
                B256::ZERO
            } else {
                keccak256(list)
            },
        };
        let (a, b) = (half(0, list_a), half(1, &[]));
        let wide = |half: HalfState| half.try_into().map_err(|error| failed(&error));
        let halves = Halves {
            a: wide(a)?,
            b: wide(b)?,
        };
        let id = self.client.channel_id(params).await;
        let id = id.map_err(|error| failed(&error))?;
        let contract = self.client.contract();
        let digest = contract.snapshotDigest(id, halves).call().await;
        let other = self.sign(1 - side, digest.map_err(|error| failed(&error))?)?;
        let [signature_a, signature_b] = match side {
            0 => [Bytes::new(), other],
            _ => [other, Bytes::new()],
        };
        let submission = Submission {
            a,
            b,
            list_a: Bytes::copy_from_slice(list_a),
            list_b: Bytes::new(),
            signature_a,
            signature_b,
            consent: None,
        };
        let name = format!(
            "channel-submit-{}-{}-{}",
            params.salt, versions[0], versions[1]
        );
        let sender = &self.senders[side];
        let landed = self.client.submit(sender, &name, params, &submission).await;
        Ok(landed.map_err(|error| failed(&error))?.receipt)
    }

    async fn settle(&self, params: Params, list_a: &[u8]) -> Result<TransactionReceipt, Failure> {
        pass_time(self.l1, u64::from(WINDOW_SECS) + 1).await?;
        let id = format!("channel-settle-{}", params.salt);
        let settlement = Settlement {
            params,
            list_a: Bytes::copy_from_slice(list_a),
            list_b: Bytes::new(),
        };
        let landed = self.client.settle(&self.senders[0], &id, &settlement).await;
        Ok(landed.map_err(|error| failed(&error))?.receipt)
    }
}
