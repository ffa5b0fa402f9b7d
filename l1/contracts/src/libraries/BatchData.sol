// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "../interfaces/IRollup.sol";

/// @title  The data vector d of a batch: from posted bytes to hashes, the evaluation y and the payouts
/// @notice posted L1 rows, rows, extras → dataHash → z → y = Σ d[i]·z^i mod r, with
///         y = header + z^5·(L1 rows + z^(5Q)·(rows + z^(N/2)·extras)). What is not posted is zero words.
library BatchData {
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    uint256 internal constant ROW_BYTES = 12;
    uint256 internal constant PAYOUT_BYTES = 40;
    uint256 internal constant CHUNK_PAYOUTS = 32;
    uint256 private constant L1_ROW_WORDS = 5;
    uint256 private constant WITHDRAWAL_BYTES = 42;
    uint256 private constant CREATION_BYTES = 34;

    // ------------------------------------------------------------------------------------------------ words

    /// @notice A buffer for the words of `count` L1 rows, 32 bytes each.
    function l1Words(uint256 count) internal pure returns (uint256[] memory) {
        return new uint256[](L1_ROW_WORDS * count);
    }

    /// @notice Writes the 5 words of L1 row j. The request must be one of the queue's, so every word is in range.
    function writeL1Row(uint256[] memory words, uint256 j, IRollup.Request calldata request, uint128 result)
        internal
        pure
    {
        bool isDeposit = request.kind == 1;
        uint256 first = L1_ROW_WORDS * j;
        uint256 index = isDeposit ? result : request.index;
        words[first] = request.kind | (index << 8) | (uint256(request.token) << 32);
        words[first + 1] = isDeposit ? request.amount : result;
        words[first + 2] = isDeposit ? request.owner : uint160(request.sender);
        words[first + 3] = request.ax;
        words[first + 4] = request.ay;
    }

    /// @notice keccak256(keccak256(L1 row words) ‖ keccak256(rows) ‖ keccak256(extras)).
    function hash(uint256[] memory words, bytes calldata rows, bytes calldata extras) internal pure returns (bytes32) {
        bytes32 l1Hash;
        assembly ("memory-safe") {
            l1Hash := keccak256(add(words, 32), mul(32, mload(words)))
        }
        return keccak256(abi.encode(l1Hash, keccak256(rows), keccak256(extras)));
    }

    // ------------------------------------------------------------------------------------------------ evaluation

    /// @notice y of header ‖ L1 rows ‖ rows ‖ extras.
    /// @param  header    d[0] … d[4]
    /// @param  extrasSum evaluateExtras of the same z
    function evaluate(
        uint256[5] memory header,
        uint256[] memory words,
        bytes calldata rows,
        uint256 extrasSum,
        uint256 l1Rows,
        uint256 txRows,
        uint256 z
    ) internal pure returns (uint256 y) {
        uint256 sum = evaluateRows(rows, z);
        if (extrasSum != 0) sum = addmod(sum, mulmod(extrasSum, power(z, txRows / 2), R), R);
        if (sum != 0) sum = mulmod(sum, power(z, L1_ROW_WORDS * l1Rows), R);
        assembly ("memory-safe") {
            function horner(from, count, seed, point) -> total {
                total := seed
                for { let p := add(from, mul(32, count)) } gt(p, from) {} {
                    p := sub(p, 32)
                    total := addmod(mulmod(total, point, R), mload(p), R)
                }
            }
            // The seed of a Horner sum is multiplied by point^count: it stands for the words that follow.
            let l1Sum := horner(add(words, 32), mload(words), 0, z)
            y := horner(header, 5, addmod(sum, l1Sum, R), z)
        }
    }

    /// @notice Σ w_i·z^i of the rows, two of them (24 bytes) a word.
    function evaluateRows(bytes calldata rows, uint256 z) internal pure returns (uint256 sum) {
        // Words are below 2^192 and products below r < 2^254, so a plain sum does not overflow, and the next product
        // takes it unreduced. Horner from the last word; sixteen words a turn after the odd ones.
        assembly ("memory-safe") {
            let from := rows.offset
            let p := add(from, rows.length)
            for { let odd := mod(rows.length, 384) } odd { odd := sub(odd, 24) } {
                p := sub(p, 24)
                sum := add(mulmod(sum, z, R), shr(64, calldataload(p)))
            }
            for {} gt(p, from) {} {
                p := sub(p, 384)
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 360))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 336))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 312))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 288))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 264))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 240))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 216))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 192))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 168))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 144))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 120))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 96))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 72))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 48))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(add(p, 24))))
                sum := add(mulmod(sum, z, R), shr(64, calldataload(p)))
            }
            sum := mod(sum, R)
        }
    }

    /// @notice Σ of the extras' words from the start of their region, and their withdrawals written to `payouts`.
    /// @dev    A record is a withdrawal if and only if its row has from ≠ 0 and to = 0: content never decides.
    function evaluateExtras(bytes calldata rows, bytes calldata extras, uint256 z, bytes memory payouts)
        internal
        pure
        returns (uint256 sum)
    {
        uint256 cube = mulmod(mulmod(z, z, R), z, R);
        uint256 scale = 1;
        uint256 next = 0;
        uint256 offset = 0;
        while (offset < extras.length) {
            if (offset + CREATION_BYTES > extras.length) revert IRollup.ExtraTruncated(offset);
            uint256 row = uint16(bytes2(extras[offset:offset + 2]));
            if (row < next) revert IRollup.ExtraOutOfOrder(row);
            if (row >= rows.length / ROW_BYTES) revert IRollup.ExtraWithoutRow(rows.length / ROW_BYTES, row);
            // scale = cube^row: from the row after the last record
            scale = mulmod(scale, power(cube, row - next), R);
            uint256 value;
            if (isWithdrawal(rows, row)) {
                if (offset + WITHDRAWAL_BYTES > extras.length) revert IRollup.ExtraTruncated(offset);
                value = _withdrawal(extras, offset, z);
                _append(payouts, extras, offset + 2);
                offset += WITHDRAWAL_BYTES;
            } else {
                value = uint256(bytes32(extras[offset + 2:offset + CREATION_BYTES]));
                if (value >= R) revert IRollup.WordOutOfRange(value);
                offset += CREATION_BYTES;
            }
            sum = addmod(sum, mulmod(value, scale, R), R);
            scale = mulmod(scale, cube, R);
            next = row + 1;
        }
    }

    /// @dev from ≠ 0 and to = 0; the row must be posted.
    function isWithdrawal(bytes calldata rows, uint256 row) internal pure returns (bool result) {
        assembly ("memory-safe") {
            let head := shr(208, calldataload(add(rows.offset, mul(ROW_BYTES, row))))
            result := and(gt(head, 0xffffff), iszero(and(head, 0xffffff)))
        }
    }

    /// @dev address + token·z + amount·z²
    function _withdrawal(bytes calldata extras, uint256 offset, uint256 z) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            let p := add(add(extras.offset, offset), 2)
            let token := and(shr(64, calldataload(p)), 0xffffffff)
            let amount := shr(128, calldataload(add(p, 24)))
            value := addmod(mulmod(amount, z, R), token, R)
            value := addmod(mulmod(value, z, R), shr(96, calldataload(p)), R)
        }
    }

    /// @notice base^exponent mod r.
    function power(uint256 base, uint256 exponent) internal pure returns (uint256 result) {
        assembly ("memory-safe") {
            result := 1
            for {} exponent {} {
                if and(exponent, 1) { result := mulmod(result, base, R) }
                base := mulmod(base, base, R)
                exponent := shr(1, exponent)
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ payouts

    /// @notice An empty list with room for what this batch can pay at most: its L1 rows and its withdrawals.
    function emptyPayouts(uint256 l1Count, uint256 extrasLength) internal pure returns (bytes memory payouts) {
        unchecked {
            // A calldata length and a count below 2^16: no overflow.
            payouts = new bytes(PAYOUT_BYTES * (l1Count + extrasLength / WITHDRAWAL_BYTES));
        }
        assembly ("memory-safe") {
            mstore(payouts, 0)
        }
    }

    /// @notice Appends what an L1 row pays: a forced exit's amount > 0, or a refused deposit to its depositor.
    function appendL1Payout(bytes memory payouts, IRollup.Request calldata request, uint128 result) internal pure {
        bool isDeposit = request.kind == 1;
        if (isDeposit != (result == 0)) return;
        uint256 amount = isDeposit ? request.amount : result;
        uint256 high = (uint256(uint160(request.sender)) << 96) | (uint256(request.token) << 64);
        assembly ("memory-safe") {
            let at := add(add(payouts, 32), mload(payouts))
            // Two overlapping words make the 40 bytes, and nothing after them is touched.
            mstore(at, or(high, shr(64, amount)))
            mstore(add(at, 8), or(shl(64, high), amount))
            mstore(payouts, add(mload(payouts), PAYOUT_BYTES))
        }
    }

    function _append(bytes memory payouts, bytes calldata extras, uint256 offset) private pure {
        assembly ("memory-safe") {
            let at := add(add(payouts, 32), mload(payouts))
            calldatacopy(at, add(extras.offset, offset), PAYOUT_BYTES)
            mstore(payouts, add(mload(payouts), PAYOUT_BYTES))
        }
    }

    /// @notice keccak256 of the concatenated hashes of the list's chunks, 0 if the list is empty.
    function hashPayouts(bytes memory payouts) internal pure returns (bytes32 result) {
        if (payouts.length == 0) return 0;
        uint256 chunk = PAYOUT_BYTES * CHUNK_PAYOUTS;
        bytes32[] memory hashes = new bytes32[]((payouts.length + chunk - 1) / chunk);
        for (uint256 i = 0; i < hashes.length; ++i) {
            uint256 from = i * chunk;
            uint256 length = payouts.length - from < chunk ? payouts.length - from : chunk;
            bytes32 chunkHash;
            assembly ("memory-safe") {
                chunkHash := keccak256(add(add(payouts, 32), from), length)
            }
            hashes[i] = chunkHash;
        }
        return keccak256(abi.encodePacked(hashes));
    }
}
