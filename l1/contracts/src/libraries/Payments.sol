// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "../interfaces/IRollup.sol";

/// @title  Moving ETH and ERC-20s
/// @notice Tokens are strangers: they may return nothing, false, too much, call back, or burn gas. Of what they return at most
///         one word is read; a call counts only if it succeeds and returns nothing or true; what returns nothing must
///         have code.
library Payments {
    // transfer(address,uint256), transferFrom(address,address,uint256), balanceOf(address)
    uint256 private constant TRANSFER = 0xa9059cbb;
    uint256 private constant TRANSFER_FROM = 0x23b872dd;
    uint256 private constant BALANCE_OF = 0x70a08231;

    /// @notice Pays with at most `gasLimit`; false if it failed. `token` 0 is ETH.
    function send(address token, address to, uint256 amount, uint256 gasLimit) internal returns (bool ok) {
        if (token != address(0)) return _transfer(token, to, amount, gasLimit);
        assembly ("memory-safe") {
            // No return data is copied, so there is no bomb.
            ok := call(gasLimit, to, amount, 0, 0, 0, 0)
        }
    }

    function _transfer(address token, address to, uint256 amount, uint256 gasLimit) private returns (bool ok) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, shl(224, TRANSFER))
            mstore(add(p, 4), shr(96, shl(96, to)))
            mstore(add(p, 36), amount)
            mstore(0, 0)
            ok := call(gasLimit, token, 0, p, 68, 0, 32)
            ok := and(ok, or(and(eq(mload(0), 1), gt(returndatasize(), 31)), iszero(returndatasize())))
            if iszero(returndatasize()) { ok := and(ok, iszero(iszero(extcodesize(token)))) }
        }
    }

    /// @notice Takes `amount` of a token from `from` and returns what really arrived.
    function pull(address token, address from, uint256 amount) internal returns (uint256) {
        uint256 before = balanceOf(token);
        bool ok;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, shl(224, TRANSFER_FROM))
            mstore(add(p, 4), shr(96, shl(96, from)))
            mstore(add(p, 36), address())
            mstore(add(p, 68), amount)
            mstore(0, 0)
            ok := call(gas(), token, 0, p, 100, 0, 32)
            ok := and(ok, or(and(eq(mload(0), 1), gt(returndatasize(), 31)), iszero(returndatasize())))
        }
        uint256 afterwards = balanceOf(token);
        if (!ok || afterwards < before) revert IRollup.TokenCallFailed(token);
        unchecked {
            return afterwards - before;
        }
    }

    /// @notice What this contract holds of a token. A token without code fails here.
    function balanceOf(address token) internal view returns (uint256 held) {
        bool ok;
        assembly ("memory-safe") {
            mstore(0, shl(224, BALANCE_OF))
            mstore(4, address())
            ok := staticcall(gas(), token, 0, 36, 0, 32)
            ok := and(ok, gt(returndatasize(), 31))
            held := mload(0)
        }
        if (!ok) revert IRollup.TokenCallFailed(token);
    }
}
