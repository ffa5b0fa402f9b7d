// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";

// Expiries are minutes apart from what a block's time can be off by.
// slither-disable-start timestamp

/// @title  Packed lists of locks
/// @notice A lock is 56 bytes: sha256 hash (32) ‖ amount (u128) ‖ expiry (u64), big-endian.
library LockList {
    /// @notice Bytes of a lock.
    uint256 internal constant LOCK_BYTES = 56;
    /// @notice Locks of one side, at most.
    uint256 internal constant MAX_LOCKS = 200;
    /// @notice An amount is below this: 200 of them stay far from any overflow.
    uint256 internal constant AMOUNT_LIMIT = 1 << 100;

    /// @notice Refuses what could not be settled: each lock has a bounded amount and is decided after `latestExpiry`.
    function check(bytes calldata list, bytes32 root, uint256 latestExpiry) internal pure {
        requireRoot(list, root);
        if (list.length % LOCK_BYTES != 0) revert IChannels.ListLength(list.length);
        uint256 count = list.length / LOCK_BYTES;
        if (count > MAX_LOCKS) revert IChannels.TooManyLocks(MAX_LOCKS, count);
        for (uint256 i = 0; i < count; ++i) {
            (, uint256 amount, uint256 expiry) = _at(list, i);
            if (amount >= AMOUNT_LIMIT) revert IChannels.LockAmountTooLarge(i, amount);
            if (expiry > latestExpiry) revert IChannels.LockExpiryTooLate(i, latestExpiry, uint64(expiry));
        }
    }

    /// @notice Sum of the locks of a checked list that were won; each other one must be dead.
    function won(bytes calldata list, bytes32 root, mapping(bytes32 => uint256) storage revealedAt)
        internal
        view
        returns (uint256 sum)
    {
        requireRoot(list, root);
        uint256 count = list.length / LOCK_BYTES;
        for (uint256 i = 0; i < count; ++i) {
            (bytes32 hash, uint256 amount, uint256 expiry) = _at(list, i);
            uint256 seen = revealedAt[hash];
            if (seen != 0 && seen <= expiry) sum += amount;
            else if (block.timestamp <= expiry) revert IChannels.LockPending(hash, uint64(expiry));
        }
    }

    /// @notice Refuses any list but the one with this root; the empty list's is 0.
    function requireRoot(bytes calldata list, bytes32 root) internal pure {
        bytes32 hash = list.length == 0 ? bytes32(0) : keccak256(list);
        if (hash != root) revert IChannels.ListMismatch(root, hash);
    }

    /// @dev Lock `i` of a list that has it.
    function _at(bytes calldata list, uint256 i) private pure returns (bytes32 hash, uint256 amount, uint256 expiry) {
        assembly ("memory-safe") {
            // i < list.length / 56, so both offsets lie in the list; of the second word 24 bytes are used.
            let place := add(list.offset, mul(i, 56))
            hash := calldataload(place)
            let tail := calldataload(add(place, 32))
            amount := shr(128, tail)
            expiry := and(shr(64, tail), 0xffffffffffffffff)
        }
    }
}
// slither-disable-end timestamp
