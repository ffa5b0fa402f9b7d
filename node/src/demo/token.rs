//! The demo's ERC-20: deployed, minted by anyone, registered in the rollup.

use super::Stage;
use crate::cli::wallet::contract_failure;
use crate::cli::{Exit, Failure};
use crate::wallet::contract::TokenInfo;
use millrace_l1::devchain::dev_signer;

/// Development account that deploys the token and funds the users. Number 0 is the operator.
pub const FUNDER: u32 = 1;

pub use artifact::TestToken;

mod artifact {
    //! The token's ABI and bytecode, in a module of its own because the macro writes undocumented items.
    #![allow(missing_docs)]
    alloy::sol!(
        #[sol(rpc)]
        TestToken,
        "../l1/contracts/artifacts/test/TestToken.json"
    );
}

/// Deploys and registers the token.
pub async fn deploy(stage: &mut Stage) -> Result<TokenInfo, Failure> {
    let signer = dev_signer(FUNDER);
    let provider = stage.contract.l1().with_signer(signer.clone());
    let token = TestToken::deploy(provider).await.map_err(|error| {
        Failure::because(
            Exit::Internal,
            "the demo's token cannot be deployed",
            &error,
        )
    })?;
    let address = *token.address();
    stage
        .contract
        .register_token(&signer, address)
        .await
        .map_err(contract_failure)?;
    let number = stage
        .contract
        .token_number(address)
        .await
        .map_err(contract_failure)?;
    let number =
        number.ok_or_else(|| Failure::new(Exit::Internal, "the token was not registered"))?;
    let token = stage
        .contract
        .token(number)
        .await
        .map_err(contract_failure)?;
    stage.done(
        "ERC-20 deployed, registered",
        format!("{} is token {number}", token.symbol),
    );
    Ok(token)
}
