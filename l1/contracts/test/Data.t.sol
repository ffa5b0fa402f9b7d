// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Reference} from "./utils/Reference.sol";
import {BatchData} from "../src/libraries/BatchData.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @title The posted bytes of a batch become exactly the words of the protocol
contract DataTest is RollupTest {
    function _refuse(IRollup.Batch memory batch, bytes memory reason) private {
        uint64 next = rollup.status().committedBatches + 1;
        vm.expectRevert(reason);
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitBatch(next, batch);
    }

    // ------------------------------------------------------------------------------------------------ agreement

    /// @dev Random rows, random records for random rows: the contract's statement is the reference's, word for word.
    function testFuzz_commitBatch_agrees_with_the_reference(uint256 seed, uint256 count, bool large) public {
        IRollup.Batch memory batch = draft();
        batch.circuitId = large ? LARGE : SMALL;
        batch.feeLeaves = uint256(keccak256(abi.encode(seed, "fees"))) >> 16;
        count = 2 * bound(count, 0, large ? 40 : 4);
        for (uint256 i = 0; i < count; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, i)));
            uint24 from = word & 7 == 0 ? 0 : uint24(word >> 8);
            uint24 to = word & 56 < 16 ? 0 : uint24(word >> 32);
            batch.rows = bytes.concat(batch.rows, row(from, to, uint40(word >> 56), uint8(word >> 96)));
            if (word & 64 != 0) continue;
            bytes memory record = from != 0 && to == 0
                ? withdrawal(uint16(i), address(uint160(word >> 96)), uint32(word >> 7), uint128(word))
                : abi.encodePacked(uint16(i), uint256(keccak256(abi.encode(word))) % R);
            batch.extras = bytes.concat(batch.extras, record);
        }
        commit(batch);
    }

    function testFuzz_commitBatch_agrees_on_l1_rows(uint256 seed, uint8 count) public {
        uint256 queued = bound(count, 1, 4);
        IRollup.L1Row[] memory l1Rows = new IRollup.L1Row[](queued);
        for (uint256 i = 0; i < queued; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, i)));
            skip(word % 1000);
            uint64 id = word & 1 == 0
                ? deposit(ALICE, uint32(word >> 8) & 1, uint128(bound(word >> 32, 1, 1e20)))
                : requestExit(BOB, uint24(bound(word >> 32, 1, 2 ** 24 - 1)), uint32(word >> 8) & 1);
            // A deposit to a leaf or refused; an exit that pays or not.
            uint128 result = word & 2 == 0 ? 0 : uint128(word >> 64) >> (word & 1 == 0 ? 104 : 1);
            l1Rows[i] = IRollup.L1Row(requests[id], result);
        }
        IRollup.Batch memory batch = draft();
        batch.l1Rows = l1Rows;
        commit(batch);
    }

    /// @dev Many payouts: chunks of 32, the last one shorter.
    function test_commitBatch_agrees_on_several_chunks_of_payouts() public {
        uint256[5] memory counts = [uint256(2), 32, 34, 64, 66];
        for (uint256 n = 0; n < counts.length; ++n) {
            IRollup.Batch memory batch = draft();
            batch.circuitId = LARGE;
            for (uint16 i = 0; i < counts[n]; ++i) {
                batch.rows = bytes.concat(batch.rows, row(i + 1, 0, 0, 0));
                batch.extras = bytes.concat(batch.extras, withdrawal(i, address(uint160(i) << 100), i, ~uint128(i)));
            }
            commit(batch);
        }
    }

    function test_domain_binds_the_chain_and_the_contract() public {
        uint256 here = rollup.domain();
        vm.assertEq(here, uint256(keccak256(abi.encode("millrace-rollup-1", 31337, address(rollup)))) >> 8);
        vm.chainId(31338);
        vm.assertTrue(rollup.domain() != here);
    }

    function test_power_and_empty_sums() public pure {
        vm.assertEq(BatchData.power(5, 0), 1);
        vm.assertEq(BatchData.power(0, 0), 1);
        vm.assertEq(BatchData.power(R - 1, 3), R - 1);
        vm.assertEq(BatchData.power(3, 40), 3 ** 40 % R);
    }

    // ------------------------------------------------------------------------------------------------ one parsing only

    /// @dev *The same words must not parse two ways*: moving a byte between regions changes the hash and so z.
    function test_dataHash_separates_its_regions() public {
        IRollup.Batch memory a = draft();
        a.rows = bytes.concat(row(1, 2, 3, 4), row(5, 6, 7, 8));
        a.extras = abi.encodePacked(uint16(1), uint256(9));
        IRollup.StoredBatch memory first = expected(a);
        a.extras = abi.encodePacked(uint16(0), uint256(9));
        vm.assertTrue(expected(a).z != first.z);
        commit(a);
    }

    /// @dev *Content never decides*: the row says whether a record is a withdrawal.
    function test_extras_follow_the_row_and_not_their_content() public {
        IRollup.Batch memory batch = draft();
        // A creation record that looks like a withdrawal pays nothing.
        batch.rows = bytes.concat(row(1, 2, 3, 4), row(0, 0, 0, 0));
        bytes memory lookalike = abi.encodePacked(uint16(0), uint96(0), ALICE);
        batch.extras = lookalike;
        vm.assertEq(expected(batch).payoutsHash, 0);
        commit(batch);
        // The same bytes for a row with to = 0 are 8 bytes short of a withdrawal.
        batch = draft();
        batch.rows = bytes.concat(row(1, 0, 0, 0), row(0, 0, 0, 0));
        batch.extras = lookalike;
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraTruncated.selector, 0));
        // A row with from = 0 never withdraws, whatever `to` says.
        batch = draft();
        batch.rows = bytes.concat(row(0, 0, 0, 0), row(0, 7, 0, 0));
        batch.extras = bytes.concat(abi.encodePacked(uint16(0), uint256(1)), abi.encodePacked(uint16(1), uint256(2)));
        vm.assertEq(expected(batch).payoutsHash, 0);
        commit(batch);
    }

    function test_a_withdrawal_row_without_a_record_pays_nothing() public {
        IRollup.Batch memory batch = draft();
        batch.rows = bytes.concat(row(1, 0, 0, 0), row(0, 0, 0, 0));
        vm.assertEq(expected(batch).payoutsHash, 0);
        commit(batch);
    }

    // ------------------------------------------------------------------------------------------------ refusals

    function test_commitBatch_refuses_lengths_of_rows() public {
        IRollup.Batch memory batch = draft();
        uint16[6] memory lengths = [uint16(1), 12, 23, 36, 108, 120];
        for (uint256 i = 0; i < lengths.length; ++i) {
            batch.rows = new bytes(lengths[i]);
            _refuse(batch, abi.encodeWithSelector(IRollup.RowsLength.selector, 96, lengths[i]));
        }
        batch.rows = new bytes(96);
        commit(batch);
    }

    function test_commitBatch_refuses_records_out_of_order() public {
        IRollup.Batch memory batch = draft();
        batch.rows = new bytes(96);
        bytes memory record3 = abi.encodePacked(uint16(3), uint256(1));
        bytes memory record2 = abi.encodePacked(uint16(2), uint256(1));
        batch.extras = bytes.concat(record3, record2);
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraOutOfOrder.selector, 2));
        batch.extras = bytes.concat(record3, record3);
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraOutOfOrder.selector, 3));
        batch.extras = bytes.concat(record2, record3);
        commit(batch);
    }

    function test_commitBatch_refuses_records_of_rows_that_are_not_posted() public {
        IRollup.Batch memory batch = draft();
        batch.rows = new bytes(48);
        batch.extras = abi.encodePacked(uint16(4), uint256(1));
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraWithoutRow.selector, 4, 4));
        batch.extras = abi.encodePacked(uint16(65535), uint256(1));
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraWithoutRow.selector, 4, 65535));
        batch.rows = "";
        batch.extras = abi.encodePacked(uint16(0), uint256(1));
        _refuse(batch, abi.encodeWithSelector(IRollup.ExtraWithoutRow.selector, 0, 0));
    }

    function test_commitBatch_refuses_truncated_records() public {
        IRollup.Batch memory batch = draft();
        batch.rows = bytes.concat(row(1, 2, 3, 4), row(1, 0, 0, 0));
        bytes memory creation = abi.encodePacked(uint16(0), uint256(1));
        bytes memory paid = withdrawal(1, ALICE, 0, 5);
        bytes memory whole = bytes.concat(creation, paid);
        for (uint256 length = 1; length < whole.length; ++length) {
            if (length == creation.length) continue;
            batch.extras = new bytes(length);
            for (uint256 i = 0; i < length; ++i) {
                batch.extras[i] = whole[i];
            }
            uint256 offset = length < creation.length ? 0 : creation.length;
            _refuse(batch, abi.encodeWithSelector(IRollup.ExtraTruncated.selector, offset));
        }
        batch.extras = whole;
        commit(batch);
    }

    /// @dev A word x and x + r have the same evaluation: only the first is posted data.
    function test_commitBatch_refuses_words_from_r_on() public {
        IRollup.Batch memory batch = draft();
        batch.rows = bytes.concat(row(1, 2, 3, 4), row(0, 0, 0, 0));
        batch.extras = abi.encodePacked(uint16(0), R + 5);
        _refuse(batch, abi.encodeWithSelector(IRollup.WordOutOfRange.selector, R + 5));
        batch.extras = abi.encodePacked(uint16(0), R);
        _refuse(batch, abi.encodeWithSelector(IRollup.WordOutOfRange.selector, R));
        batch.extras = abi.encodePacked(uint16(0), R - 1);
        for (uint256 k = 1; k <= 5; ++k) {
            batch.newRoot = 5 + k * R;
            _refuse(batch, abi.encodeWithSelector(IRollup.WordOutOfRange.selector, 5 + k * R));
        }
        batch.newRoot = 5;
        for (uint256 k = 1; k <= 5; ++k) {
            batch.commitment = 6 + k * R;
            _refuse(batch, abi.encodeWithSelector(IRollup.WordOutOfRange.selector, 6 + k * R));
        }
        batch.commitment = 6;
        batch.feeLeaves = 1 << 240;
        _refuse(batch, abi.encodeWithSelector(IRollup.FeeLeavesOutOfRange.selector, 1 << 240));
        batch.feeLeaves = (1 << 240) - 1;
        commit(batch);
    }

    function test_commitBatch_refuses_an_unknown_circuit() public {
        IRollup.Batch memory batch = draft();
        uint16[3] memory ids = [uint16(0), 3, 65535];
        for (uint256 i = 0; i < ids.length; ++i) {
            batch.circuitId = ids[i];
            _refuse(batch, abi.encodeWithSelector(IRollup.UnknownCircuit.selector, ids[i]));
        }
    }

    function test_commitBatch_refuses_timestamps_out_of_range() public {
        uint64 now_ = uint64(now_());
        IRollup.Batch memory batch = draft();
        batch.timestamp = now_ + 1;
        _refuse(batch, abi.encodeWithSelector(IRollup.TimestampOutOfRange.selector, now_ - 7200, now_, now_ + 1));
        batch.timestamp = now_ - 7201;
        _refuse(batch, abi.encodeWithSelector(IRollup.TimestampOutOfRange.selector, now_ - 7200, now_, now_ - 7201));
        batch.timestamp = now_ - 7200;
        commit(batch);
        batch = draft();
        batch.timestamp = now_ - 100;
        commit(batch);
        // Never before the last committed batch's.
        batch = draft();
        batch.timestamp = now_ - 101;
        _refuse(batch, abi.encodeWithSelector(IRollup.TimestampOutOfRange.selector, now_ - 100, now_, now_ - 101));
    }

    // ------------------------------------------------------------------------------------------------ the queue

    function test_commitBatch_takes_requests_in_order_and_once() public {
        deposit(ALICE, 0, 1);
        deposit(ALICE, 0, 2);
        deposit(ALICE, 0, 3);
        IRollup.Batch memory batch = draftConsuming(1, 1, 5);
        _refuse(batch, abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0)); // a gap
        batch = draftConsuming(0, 2, 5);
        (batch.l1Rows[0], batch.l1Rows[1]) = (batch.l1Rows[1], batch.l1Rows[0]);
        _refuse(batch, abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        batch = draftConsuming(0, 2, 5);
        commit(batch);
        batch.timestamp = uint64(now_());
        _refuse(batch, abi.encodeWithSelector(IRollup.RequestMismatch.selector, 2)); // again
        batch = draftConsuming(2, 1, 5);
        commit(batch);
        _refuse(draftConsuming(2, 1, 5), abi.encodeWithSelector(IRollup.RequestMismatch.selector, 3)); // none left
    }

    /// @dev Every field of the request is bound.
    function test_commitBatch_refuses_an_altered_request() public {
        deposit(ALICE, 1, 100);
        for (uint256 i = 0; i < 10; ++i) {
            IRollup.Batch memory batch = draftConsuming(0, 1, 5);
            IRollup.Request memory q = abi.decode(abi.encode(requests[0]), (IRollup.Request));
            if (i == 0) q.kind = 2;
            if (i == 1) q.index = 1;
            if (i == 2) q.token = 0;
            if (i == 3) q.amount = 101;
            if (i == 4) q.sender = BOB;
            if (i == 5) q.owner = 1;
            if (i == 6) q.ax = 1;
            if (i == 7) q.ay = 1;
            if (i == 8) q.created -= 1;
            if (i == 9) q.deadline += 1;
            batch.l1Rows[0].request = q;
            _refuse(batch, abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        }
    }

    /// @dev Calldata that no compiler writes: upper bits of a narrow field set. The hash is over all of them.
    function test_commitBatch_refuses_dirty_upper_bits() public {
        deposit(ALICE, 0, 100);
        IRollup.Batch memory batch = draftConsuming(0, 1, 5);
        bytes memory input = abi.encodeCall(IRollup.commitBatch, (1, batch));
        // number, offset, 9 head words, length, then the request's kind: the 13th word; its 31st byte is beside the kind.
        uint256 place = 4 + 32 * 12 + 30;
        vm.assertEq(uint8(input[place + 1]), 1);
        input[place] = 0x01;
        vm.prank(OPERATOR, OPERATOR);
        (bool ok, bytes memory reason) = address(rollup).call(input);
        vm.assertFalse(ok);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IRollup.RequestMismatch.selector));
    }

    function test_commitBatch_refuses_a_result_beyond_the_tree() public {
        deposit(ALICE, 0, 1);
        uint128 leaves = 1 << 24;
        bytes memory reason = abi.encodeWithSelector(IRollup.ResultOutOfRange.selector, 0, leaves);
        _refuse(draftConsuming(0, 1, leaves), reason);
        commit(draftConsuming(0, 1, leaves - 1));
    }

    function test_commitBatch_refuses_more_l1_rows_than_the_circuit_has() public {
        for (uint256 i = 0; i < 5; ++i) {
            deposit(ALICE, 0, 1);
        }
        _refuse(draftConsuming(0, 5, 7), abi.encodeWithSelector(IRollup.TooManyL1Rows.selector, 4, 5));
        commit(draftConsuming(0, 4, 7));
    }
}
