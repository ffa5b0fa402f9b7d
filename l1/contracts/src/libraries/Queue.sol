// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title  The queue of requests: its counters, deadlines and fees
/// @notice Flooding the queue neither forces an escape (deadlines keep a distance) nor prices exits out (the fee is capped).
library Queue {
    /// @dev Requests that are open when the fee doubles.
    uint256 internal constant FEE_STEP = 1024;
    uint256 internal constant MAX_FEE_DOUBLINGS = 10;

    /// @notice One storage slot. 40-bit times and counters last 34,000 years and a request a second as long.
    /// @param  tail         number of requests made
    /// @param  lastDeadline deadline of the last one
    /// @param  feePot       the half of the fees that beneficiaries have yet to get
    struct State {
        uint40 tail;
        uint40 lastDeadline;
        uint128 feePot;
    }

    /// @notice base·2^(open / 1024), at most base·2^10.
    function fee(uint128 base, uint256 open) internal pure returns (uint256) {
        uint256 doublings = open / FEE_STEP;
        return uint256(base) << (doublings < MAX_FEE_DOUBLINGS ? doublings : MAX_FEE_DOUBLINGS);
    }

    /// @notice max(now + window, last deadline + spacing).
    function deadline(uint256 lastDeadline, uint256 window, uint256 spacing) internal view returns (uint256) {
        uint256 earliest = lastDeadline + spacing;
        uint256 usual = block.timestamp + window;
        // Days, not seconds, are at stake.
        // slither-disable-next-line timestamp
        return usual > earliest ? usual : earliest;
    }

    /// @notice The beneficiary's part of the pot for consuming `count` of `open` requests: each weighs the same.
    function share(uint256 pot, uint256 count, uint256 open) internal pure returns (uint256) {
        return count == 0 ? 0 : pot * count / open;
    }
}
