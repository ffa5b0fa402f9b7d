//! The demo's users: each with a new phrase, a wallet in a folder of its own, and money on L1.

use super::Stage;
use super::token::{FUNDER, TestToken};
use crate::cli::wallet::pay_failure;
use crate::cli::{Exit, Failure};
use crate::wallet::contract::TokenInfo;
use crate::wallet::keys::{KeySource, Phrase, UserKeys};
use crate::wallet::payments::Wallet;
use alloy::network::TransactionBuilder;
use alloy::primitives::U256;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use millrace_l1::devchain::dev_signer;

/// What a user gets on L1, in wei: 10 ETH.
const POCKET: u128 = 10_000_000_000_000_000_000;
/// What a user gets of the token: 10,000.
const TOKENS: u128 = 10_000_000_000_000_000_000_000;

/// A user.
pub struct User {
    /// The wallet.
    pub wallet: Wallet,
    /// The keys with number 0.
    pub keys: UserKeys,
}

/// All users.
pub struct Users {
    /// Those who deposit.
    pub depositors: Vec<User>,
    /// One who has nothing until others pay.
    pub newcomer: User,
}

impl Users {
    /// Makes the wallets and fills the L1 accounts of the depositors.
    pub async fn fund(stage: &mut Stage, count: u32, token: &TokenInfo) -> Result<Self, Failure> {
        let mut depositors = Vec::new();
        for number in 0..count {
            let user = User::new(stage, &format!("user-{number}"))?;
            fill(stage, &user, token).await?;
            depositors.push(user);
        }
        let newcomer = User::new(stage, "newcomer")?;
        stage.done(
            "wallets made and funded",
            format!("{count} users on L1, one newcomer without money"),
        );
        Ok(Self {
            depositors,
            newcomer,
        })
    }
}

impl User {
    /// Wallets of the demo hold nothing of value, so their phrases stay in memory.
    fn new(stage: &Stage, name: &str) -> Result<Self, Failure> {
        let source = KeySource::Phrase(Phrase::generate());
        let folder = stage.folder.join("wallets").join(name);
        let rollup = stage.contract.identity();
        let mut wallet = Wallet::open(&folder, source, rollup).map_err(pay_failure)?;
        let keys = wallet.keys(0).map_err(pay_failure)?;
        Ok(Self { wallet, keys })
    }
}

async fn fill(stage: &Stage, user: &User, token: &TokenInfo) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::because(Exit::Internal, "a user cannot be funded on L1", error)
    };
    let provider = stage.contract.l1().with_signer(dev_signer(FUNDER));
    let address = user.keys.l1.address();
    let request = TransactionRequest::default()
        .with_to(address)
        .with_value(U256::from(POCKET));
    let sent = provider
        .send_transaction(request)
        .await
        .map_err(|error| failed(&error))?;
    sent.get_receipt().await.map_err(|error| failed(&error))?;
    let Some(erc20) = token.address else {
        return Err(Failure::new(
            Exit::Internal,
            "the demo's token has no contract",
        ));
    };
    let minted = TestToken::new(erc20, provider)
        .mint(address, U256::from(TOKENS))
        .send()
        .await;
    let minted = minted.map_err(|error| failed(&error))?;
    minted.get_receipt().await.map_err(|error| failed(&error))?;
    Ok(())
}
