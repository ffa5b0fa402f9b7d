//! The contracts as Rust types, generated from their committed ABI and bytecode.
//!
//! `Rollup` is the contract with its calls, events and errors; the structs of its interface are in `IRollup`. `Erc20` is
//! what is used of tokens. What each call does and when it refuses is written in `contracts/src/interfaces/IRollup.sol`.

#![allow(missing_docs)]

pub use erc20::Erc20;
pub use rollup::{IRollup, Rollup};

mod rollup {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        Rollup,
        "contracts/artifacts/Rollup.json"
    );
}

mod erc20 {
    alloy::sol! {
        #[sol(rpc, all_derives)]
        interface Erc20 {
            event Transfer(address indexed from, address indexed to, uint256 value);
            function balanceOf(address account) external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 amount) external returns (bool);
            function decimals() external view returns (uint8);
            function symbol() external view returns (string);
        }
    }
}
