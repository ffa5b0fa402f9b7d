//! Where the parties meet: an anvil, the two contracts, a wallet that all of them share with keys of different numbers.

use crate::ETHER;
use crate::party::{LOOK, PASSWORD, PATIENCE, Party};
use alloy::eips::BlockId;
use alloy::network::ReceiptResponse;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use millrace::wallet::keys::{KeySource, Phrase};
use millrace_l1::channels_client::{ChannelPhase, ChannelsClient};
use millrace_l1::devchain::{DEV_MNEMONIC, dev_signer};
use millrace_l1::provider::L1Provider;
use millrace_l1::sender::TransactionSender;
use millrace_l1::testing::TestL1;
use millrace_tests::process::command;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How much each party's account has for deposits and gas at first, in wei.
pub const POCKET: u128 = 100 * ETHER;
/// The dispute window of channels in these tests, seconds: the shortest that nodes take.
pub const WINDOW: u64 = 12 * 3600;

/// An L1 with both contracts, and room for the parties' folders.
pub struct Stage {
    pub l1: TestL1,
    pub client: ChannelsClient,
    pub rollup: Address,
    pub folder: tempfile::TempDir,
    /// Blocks on top of one that is final.
    pub depth: u64,
}

impl Stage {
    /// On a fresh anvil, where every block is final at once.
    pub async fn new() -> Self {
        Self::with_depth(0).await
    }

    /// On a fresh anvil, where a block is final with so many on top.
    pub async fn with_depth(depth: u64) -> Self {
        millrace::wiring::use_ring();
        let l1 = TestL1::anvil().await;
        let deployer = TransactionSender::in_memory(l1.provider().clone(), dev_signer(0));
        let rollup = millrace_tests::world::deploy(&deployer).await.address();
        let client = ChannelsClient::deploy(&deployer, "channels").await;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let stage = Self {
            l1,
            client: client.expect("the contract deploys").value,
            rollup,
            folder,
            depth,
        };
        stage.make_wallet();
        // No reorg of a test reaches the contracts.
        stage.l1.mine(2 * depth).await;
        stage
    }

    fn make_wallet(&self) {
        let phrase = self.folder.path().join("phrase");
        std::fs::write(&phrase, DEV_MNEMONIC).expect("the folder can be written");
        let made = command()
            .args(["--json", "wallet", "import", "--phrase-file"])
            .arg(&phrase)
            .env("MILLRACE_PASSWORD", PASSWORD)
            .env("MILLRACE_WALLET", self.wallet())
            .output();
        let made = made.expect("the program runs");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{errors}");
    }

    /// The wallet's folder.
    pub fn wallet(&self) -> PathBuf {
        self.folder.path().join("wallet")
    }

    /// The endpoint.
    pub fn url(&self) -> &str {
        self.l1.url().expect("anvil has an endpoint")
    }

    /// The connection.
    pub fn provider(&self) -> &L1Provider {
        self.l1.provider()
    }

    /// A party with the keys of this number and money in its account; it does not run yet.
    pub async fn party(&self, name: &'static str, number: u32) -> Party {
        let party = Party::new(self, name, number);
        self.l1
            .set_balance(party.account(), U256::from(POCKET))
            .await;
        // No reorg of a test takes the money away.
        self.l1.mine(self.depth).await;
        party
    }

    /// Two running parties, connected, the first dialling.
    pub async fn two(&self) -> (Party, Party) {
        let (mut alice, mut bob) = (self.party("alice", 21).await, self.party("bob", 22).await);
        bob.start().await;
        alice.start().await;
        alice.does(&["connect", &bob.address()]);
        (alice, bob)
    }

    /// Lets L1's time pass.
    pub async fn pass(&self, secs: u64) {
        self.l1.increase_time(secs).await;
        self.l1.mine(1 + self.depth).await;
    }

    /// ETH of an account, in wei.
    pub async fn balance(&self, account: Address) -> u128 {
        let balance = self.provider().provider().get_balance(account).await;
        balance.expect("L1 answers").to()
    }

    /// What an account has spent on gas in all blocks, in wei.
    pub async fn gas_of(&self, account: Address) -> u128 {
        let provider = self.provider().provider();
        let mut spent = 0;
        for number in 0..=self.l1.height().await {
            let receipts = provider.get_block_receipts(BlockId::number(number)).await;
            for receipt in receipts.expect("L1 answers").unwrap_or_default() {
                if receipt.from == account {
                    spent += receipt.cost();
                }
            }
        }
        spent
    }

    /// Where a channel stands on L1.
    pub async fn phase(&self, channel: &str) -> ChannelPhase {
        let id: B256 = channel.parse().expect("a channel's id");
        let state = self.client.channel(id).await;
        state.expect("L1 answers").phase
    }

    /// Waits until L1 shows the channel in this phase.
    pub async fn until_on_chain(&self, id: &str, phase: ChannelPhase) {
        let start = Instant::now();
        while self.phase(id).await != phase {
            assert!(start.elapsed() < PATIENCE, "{id} is not {phase:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the dispute on L1 has this much paid by each side.
    pub async fn until_disputed(&self, id: &str, paid_a: u128, paid_b: u128) {
        let start = Instant::now();
        loop {
            let dispute = self.client.dispute(id.parse().expect("an id")).await;
            let dispute = dispute.expect("L1 answers");
            let found = dispute.map(|dispute| (dispute.a.paid, dispute.b.paid));
            if found == Some((paid_a, paid_b)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "L1 has {found:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the contract still holds of ETH.
    pub async fn held(&self) -> u128 {
        self.balance(self.client.address()).await
    }

    /// How many transactions an account has sent.
    pub async fn sent(&self, account: Address) -> u64 {
        let count = self.provider().provider().get_transaction_count(account);
        count.await.expect("L1 answers")
    }
}

/// The L1 key at the channels' path of this number.
pub fn hot_key(number: u32) -> PrivateKeySigner {
    let phrase = Phrase::parse(DEV_MNEMONIC).expect("a phrase");
    let key = KeySource::Phrase(phrase).channel_key(number);
    key.expect("a phrase has keys of all numbers")
}

/// The address that channels of this number pay out to.
pub fn payout(number: u32) -> Address {
    let phrase = Phrase::parse(DEV_MNEMONIC).expect("a phrase");
    let key = KeySource::Phrase(phrase).l1_key(number);
    key.expect("a phrase has keys of all numbers").address()
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a file has a type");
        match kind.is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a file can be copied")),
        }
    }
}
