// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title  How far the rollup has come, in one storage slot
/// @notice Every batch reads and writes it: one slot instead of seven. 40 bits hold a time for 34,000 years, and a batch or a
///         request a second as long.
struct Progress {
    uint256 provenBatches;
    uint256 committedBatches;
    uint256 provenQueueHead;
    uint256 committedQueueHead;
    uint256 provenTimestamp;
    uint256 committedTimestamp;
    bool frozen;
}

using {pack} for Progress global;

/// @dev Each part is below 2^40: times are block times or earlier, counters grow by one.
function pack(Progress memory p) pure returns (uint256) {
    return p.provenBatches | (p.committedBatches << 40) | (p.provenQueueHead << 80) | (p.committedQueueHead << 120)
        | (p.provenTimestamp << 160) | (p.committedTimestamp << 200) | (p.frozen ? uint256(1) << 240 : 0);
}

function unpackProgress(uint256 slot) pure returns (Progress memory p) {
    uint256 mask = type(uint40).max;
    p.provenBatches = slot & mask;
    p.committedBatches = (slot >> 40) & mask;
    p.provenQueueHead = (slot >> 80) & mask;
    p.committedQueueHead = (slot >> 120) & mask;
    p.provenTimestamp = (slot >> 160) & mask;
    p.committedTimestamp = (slot >> 200) & mask;
    p.frozen = (slot >> 240) != 0;
}
