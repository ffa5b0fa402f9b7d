//! The contracts as Rust types, generated from their committed ABI and bytecode.
//!
//! `Rollup` and `Channels` are the contracts with their calls, events and errors; the structs of their interfaces are in
//! `IRollup` and `IChannels`. `Erc20` is what is used of tokens. What each call does and when it refuses is written in
//! `contracts/src/interfaces/`.

#![allow(missing_docs)]

pub use channels::{Channels, IChannels};
pub use erc20::Erc20;
pub use rollup::{IRollup, Rollup};

mod rollup {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        Rollup,
        "contracts/artifacts/Rollup.json"
    );
}

// An event tells all that a channel is.
#[allow(clippy::too_many_arguments)]
mod channels {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        Channels,
        "contracts/artifacts/Channels.json"
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
